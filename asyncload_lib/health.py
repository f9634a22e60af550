"""Whether this generator process could keep up: its CPU, the lag of its loop and of its hub, its late starts.

A load generator that was itself the bottleneck measures itself. These figures decide whether a run is valid.
"""

import logging
import os
import platform
from collections import deque
from typing import Any

import gevent
import psutil

from asyncload_lib.eventloop.lag import HubMonitor, LoopMonitor
from asyncload_lib.eventloop.thread import LoopThread
from asyncload_lib.settings import Settings

__all__ = ["ProcessHealth"]

logger = logging.getLogger(__name__)

LOOP_TIMEOUT_S = 5.0
"""When the loop is taken to be blocked for good."""

CPU_WINDOW_S = 3
"""A shorter peak delays nobody for long; imports and the forming of a burst are such peaks."""


class ProcessHealth:
    """Watches one process between `start()` and `stop()`; `reset()` begins a new scenario. For the hub's thread."""

    def __init__(self, thread: LoopThread, settings: Settings) -> None:
        self.process = f"{platform.node()}:{os.getpid()}"
        self._thread = thread
        limit_s, period_s = settings.loop.limit, settings.loop.period
        self._loop_monitor = LoopMonitor("generator", limit_s, period_s)
        self._hub_monitor = HubMonitor(gevent.spawn, gevent.sleep, "generator hub", limit_s, period_s)
        self._cpu: deque[float] = deque(maxlen=CPU_WINDOW_S)
        self._cpu_max: float | None = None
        self._running = False

    @property
    def loop_monitor(self) -> LoopMonitor:
        return self._loop_monitor

    def start(self) -> None:
        """Start watching; a second call does nothing."""
        if self._running:
            return
        self._running = True
        self._thread.call(self._start_loop_monitor(), LOOP_TIMEOUT_S)
        self._hub_monitor.start()
        gevent.spawn(self._watch_cpu)

    async def _start_loop_monitor(self) -> None:
        self._loop_monitor.start()

    async def _stop_loop_monitor(self) -> None:
        self._loop_monitor.stop()

    def reset(self) -> None:
        """Forget what was seen so far."""
        if self._running:
            self._loop_monitor.reset()
            self._hub_monitor.reset()
        self._cpu_max = None

    def stop(self) -> None:
        """Stop watching; the report stays."""
        if self._running:
            self._running = False
            try:
                self._thread.call(self._stop_loop_monitor(), LOOP_TIMEOUT_S)
            except TimeoutError:
                logger.error("the monitor of the event loop could not be stopped: the loop is blocked")
            self._hub_monitor.stop()

    def report(self, send_delays_us: list[float]) -> dict[str, Any]:
        """Return this process's figures (CPU in percent of one core, times in seconds) and its two loops."""
        loops = [{**monitor.report(), "process": self.process} for monitor in (self._loop_monitor, self._hub_monitor)]
        # Whoever kept the GIL from this loop was Locust's hub or asyncload itself: the generator's lag tells of that.
        loops[0]["blocked"] = loops[0]["by_cause"]["loop"]["stalls"] > 0
        return {
            "process": self.process,
            "cpu_percent_max": self._cpu_max,
            "loop_lag_p99": loops[0]["lag"]["p99"],
            "hub_lag_p99": loops[1]["lag"]["p99"],
            "send_delay_p99": _p99(send_delays_us) / 1e6 if send_delays_us else None,
            "event_loops": loops,
        }

    def _watch_cpu(self) -> None:
        process = psutil.Process()
        process.cpu_percent()
        while self._running:
            gevent.sleep(1)
            self._cpu.append(process.cpu_percent())
            if len(self._cpu) == CPU_WINDOW_S:
                self._cpu_max = max(self._cpu_max or 0.0, sum(self._cpu) / CPU_WINDOW_S)


def _p99(values: list[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]
