"""Monitors that prove that a loop never blocked, or name the line that blocked it.

A heartbeat on the loop gives the lag; a watchdog in a native thread takes the loop's stack while a beat is overdue; a
stall over the limit is charged to the loop, to the GIL, to garbage collection or to the machine (`attribution`).

A stall begins somewhere between two beats, so its length is known only to within half a period: 1.5 ms with the period
of 3 ms (2 ms on uvloop, whose timers count whole milliseconds; 3 ms in a saturated loop, which beats less often). Every
stall that is longer than the limit by at least this error is found; where turns of the loop are long by themselves, a
callback must also have been seen for two fifths of the limit, for most of a late beat may then have been others.
"""

import asyncio
import contextlib
import math
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

from .frame_safety import Home
from .heartbeat import LIMIT_S, NS, PERIOD_S, Monitor
from .stacks import loop_base
from .stall import Pulse

__all__ = ["HubMonitor", "LoopMonitor"]


class LoopMonitor(Monitor):
    """Watches the asyncio or uvloop loop that runs where `start()` is called.

    `async with LoopMonitor() as monitor: ...`, then `monitor.report()`. `name` is the loop's name in the report; a
    stall of `limit_s` or more is "blocked"; the heart beats once in `period_s`. Raises ValueError for a limit under
    5 ms or a period over the limit, TypeError for what is no number, RuntimeError if started twice or outside a loop
    that runs.
    """

    def __init__(self, name: str = "loop", limit_s: float = LIMIT_S, period_s: float = PERIOD_S) -> None:
        super().__init__(name, limit_s, period_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._based = False

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Start the heartbeat on the running loop and the watchdog beside it.

        `loop`: one that the calling function will run next, in this thread, so that its very first step is watched.
        """
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._based = False
        task = asyncio.current_task(self._loop)
        outermost = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
        self._begin(loop_base(sys._getframe(1), outermost), Home())
        try:
            self._timer = self._loop.call_later(self._pace_ns / NS, self._beat)
        except BaseException:  # a loop that is closed
            self._end()
            raise

    def stop(self) -> None:
        """Stop both; the report stays. Called on the loop; a second call does nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end()

    def stop_soon(self) -> None:
        """Have the loop stop it; for any thread. Does nothing where it does not run any more."""
        if self._loop is not None and self.running:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(self.stop)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _beat(self) -> None:
        if self._timer is None or self._loop is None:
            return
        if not self._based:
            self._based = True
            self._pulse.base = loop_base(sys._getframe(1))  # certain here: the loop called this itself
        try:
            self._measure()
        except Exception as error:  # a monitor that is broken must say so, and must not break the loop
            self._failure = f"The heartbeat failed: {type(error).__name__}: {error}"
        self._timer = self._loop.call_later(self._pace_ns / NS, self._beat)

    def _task_name(self) -> str | None:
        task = asyncio.current_task(self._loop)
        if task is None:
            return None
        coroutine = task.get_coro()
        name = getattr(coroutine, "__qualname__", None) or task.get_name()
        self._pulse.discard += [task, coroutine]  # nothing is called from here on: the task cannot end meanwhile
        return name

    def _is_running(self) -> bool:
        return self._loop is not None and self._loop.is_running()

    def _is_closed(self) -> bool:
        return self._loop is None or self._loop.is_closed()


class HubMonitor(Monitor):
    """Watches a hub of greenlets (gevent) through two injected callables, so that gevent need not be imported.

    `spawn(function)` starts a greenlet, `sleep(seconds)` lets the hub run. `start()` and `stop()` belong to the hub's
    thread. It always keeps the same pace: a faster one would cost more switches of greenlets, and no verdict depends on
    the hub's stalls.
    """

    _paces = ((0.0, math.inf, 1.0),)

    def __init__(
        self,
        spawn: Callable[[Callable[[], None]], Any],
        sleep: Callable[[float], Any],
        name: str = "generator hub",
        limit_s: float = LIMIT_S,
        period_s: float = PERIOD_S,
    ) -> None:
        super().__init__(name, limit_s, period_s)
        self._spawn = spawn
        self._sleep = sleep

    def start(self) -> None:
        """Start the heartbeat greenlet and the watchdog."""
        hub = sys.modules.get("gevent.hub")  # a hub that waits for events is idle, not in a callback
        self._begin(hub.Hub.run.__code__ if hub is not None else None)
        self._spawn(partial(self._run, self._pulse))

    def stop(self) -> None:
        """Stop both; the report stays."""
        self._end()

    def _run(self, pulse: Pulse) -> None:
        while pulse is self._pulse:  # else it was stopped meanwhile, and may have been started anew
            self._sleep(self._pace_ns / NS)
            if pulse is self._pulse:
                try:
                    self._measure()
                except Exception as error:  # as in a loop's beat
                    self._failure = f"The heartbeat failed: {type(error).__name__}: {error}"
