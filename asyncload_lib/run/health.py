"""Whether this generator process could keep up: its CPU, the lag of its loop and of its hub, its late starts.

A load generator that was itself the bottleneck measures itself. These figures decide whether a run is valid.
"""

import logging
import math
import os
import platform
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any

import gevent

from asyncload_lib.errors import AsyncloadError
from asyncload_lib.eventloop.lag import HubMonitor, LoopMonitor
from asyncload_lib.eventloop.thread import LoopThread
from asyncload_lib.results.event_loops import HUB
from asyncload_lib.settings import Settings
from asyncload_lib.verdict.stalls import hub_limit_s

__all__ = ["LOOP_TIMEOUT_S", "ProcessHealth", "call_or_give_up"]

logger = logging.getLogger(__name__)

LOOP_TIMEOUT_S = 5.0
"""When the loop that runs the users is taken to be blocked for good."""

HUB_PERIOD_S = 0.02
"""Reports wait for the hub for 20 ms anyway. Each of its beats takes the interpreter lock from the loop that runs the
users: at the loop's own period that would cost a tenth of the throughput."""

CPU_WINDOW_S = 3
"""A shorter peak delays nobody for long; what is watched for a shorter time is judged by its average."""

CPU_WINDOW_LEAST_S = 1
"""The least that the average is taken over: to form a burst takes all CPU for some 100 ms. What that does to the load
shows in the lags and in the send delay."""


class ProcessHealth:
    """Watches one process between `start()` and `stop()`; `reset()` begins a new scenario. For the hub's thread."""

    def __init__(self, thread: LoopThread, settings: Settings) -> None:
        self.process = f"{platform.node()}:{os.getpid()}"
        self._thread = thread
        limit_s, period_s = settings.loop.limit, settings.loop.period
        self.loop_monitor = LoopMonitor("generator", limit_s, period_s)
        hub_limit = hub_limit_s(limit_s)
        self._hub_monitor = HubMonitor(gevent.spawn, gevent.sleep, HUB, hub_limit, HUB_PERIOD_S)
        self._cpu_marks: deque[tuple[float, float]] = deque(maxlen=CPU_WINDOW_S + 1)
        """Time and the CPU time that this process had used by then, once a second."""
        self._cpu_max: float | None = None
        self._running = False

    def start(self) -> None:
        """Start watching; a second call does nothing. Raises AsyncloadError when the loop does not react."""
        if self._running:
            return
        call_or_give_up(self._thread, self._start_loop_monitor(), LOOP_TIMEOUT_S)
        self._running = True
        self._thread.monitor = self.loop_monitor
        self._hub_monitor.start()
        self._forget_cpu()
        gevent.spawn(self._watch_cpu)

    async def _start_loop_monitor(self) -> None:
        if not self.loop_monitor.running:  # an earlier call that was given up may have come through
            self.loop_monitor.start()

    async def _stop_loop_monitor(self) -> None:
        self.loop_monitor.stop()

    def reset(self) -> None:
        """Forget what was seen so far."""
        if self._running:
            self.loop_monitor.reset()
            self._hub_monitor.reset()
        self._forget_cpu()

    def stop(self) -> None:
        """Stop watching; the report stays."""
        if self._running:
            self._running = False
            self._thread.monitor = None
            try:
                self._thread.call(self._stop_loop_monitor(), LOOP_TIMEOUT_S)
            except TimeoutError:
                logger.error("the monitor of the event loop could not be stopped: the loop is blocked")
            self._hub_monitor.stop()

    def report(self, send_delays_us: Sequence[Sequence[float]] = ()) -> dict[str, Any]:
        """Return this process's figures (CPU in percent of one core, times in seconds) and its two loops.

        `send_delays_us`: of each phase in which users were released; the worst phase counts.
        """
        loops = [{**monitor.report(), "process": self.process} for monitor in (self.loop_monitor, self._hub_monitor)]
        # Whoever kept the GIL from this loop was Locust's hub or asyncload itself: the generator's lag tells of that.
        if loops[0]["blocked"] is not None:
            loops[0]["blocked"] = loops[0]["by_cause"]["loop"]["stalls"] > 0
        return {
            "process": self.process,
            "cpu_percent_max": self._cpu_percent_max(),
            "loop_lag_p99": loops[0]["lag"]["p99"],
            "hub_lag_p99": loops[1]["lag"]["p99"],
            "send_delay_p99": max((_p99(delays_us) / 1e6 for delays_us in send_delays_us if delays_us), default=None),
            "event_loops": loops,
        }

    def _watch_cpu(self) -> None:
        while self._running:
            gevent.sleep(1)
            self._note_cpu()

    def _note_cpu(self) -> None:
        self._cpu_marks.append(_cpu_mark())
        if len(self._cpu_marks) > CPU_WINDOW_S:
            self._cpu_max = max(self._cpu_max or 0.0, _cpu_percent(self._cpu_marks[0], self._cpu_marks[-1]))

    def _forget_cpu(self) -> None:
        self._cpu_marks.clear()
        self._cpu_marks.append(_cpu_mark())
        self._cpu_max = None

    def _cpu_percent_max(self) -> float | None:
        if self._cpu_max is not None or not self._cpu_marks:
            return self._cpu_max
        return _cpu_percent(self._cpu_marks[0], _cpu_mark())


def call_or_give_up(thread: LoopThread, coroutine: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
    """As `thread.call`, where nothing can be done without the loop; raises AsyncloadError when it does not react."""
    try:
        return thread.call(coroutine, timeout_s)
    except TimeoutError:
        raise AsyncloadError("the event loop that runs the users is blocked: end this process") from None


def _cpu_mark() -> tuple[float, float]:
    return time.monotonic(), time.process_time()


def _cpu_percent(earlier: tuple[float, float], later: tuple[float, float]) -> float:
    return 100 * (later[1] - earlier[1]) / max(later[0] - earlier[0], CPU_WINDOW_LEAST_S)


def _p99(values: Sequence[float]) -> float:
    """Return the value that at least 99 % do not exceed: of fewer than 100 the highest."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]
