"""The starting line: users of a phase wait here, are released at the same instant, and are counted out again.

One gate per process, owned by its loop thread. Whoever runs the phase (this process, or a master far away) learns
through `on_change` how many wait and how many are done.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Gate", "Start", "gate"]


@dataclass(frozen=True, slots=True)
class Start:
    """A user's place in its phase: `ordinal` counts over all processes; `at_ns` is the instant of release."""

    ordinal: int
    at_ns: int


class Gate:
    """All methods are for the loop's thread, where `on_change(waiting, done)` and `on_release(at_ns)` are called."""

    def __init__(self) -> None:
        self.on_change: Callable[[int, int], None] = lambda waiting, done: None
        self.on_release: Callable[[int], None] = lambda at_ns: None
        self._release: asyncio.TimerHandle | None = None
        """Of the phase at hand, while it is still to come."""
        self.reset()

    def reset(self) -> None:
        """Make ready for the next phase; a release that is still to come is none of its."""
        if self._release is not None:
            self._release.cancel()
        self._waiting: list[asyncio.Future[int]] = []
        self._done = 0
        self._finish = asyncio.Event()
        self._base = 0
        self._opened_ns: int | None = None

    async def enter(self) -> Start:
        """Wait for the release. The ordinal follows the order of arrival within the process.

        A user that comes after the release is let through at once, but is late: its start, too, is the release.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        ordinal = len(self._waiting)
        self._waiting.append(future)
        self._tell()
        at_ns = await future if self._opened_ns is None else self._opened_ns
        return Start(self._base + ordinal, at_ns)

    def leave(self) -> None:
        """Count this user out: it will begin nothing more in this phase."""
        self._done += 1
        self._tell()

    def release(self, base: int, at_ns: int) -> None:
        """Release everybody at that instant (`perf_counter_ns`), at once if it has passed; ordinals start at `base`."""
        self._base = base
        in_s = (at_ns - time.perf_counter_ns()) / 1e9
        self._release = asyncio.get_running_loop().call_later(max(in_s, 0.0), self._open, at_ns)

    def _open(self, at_ns: int) -> None:
        # If this loop is late, that is part of every user's delay; but its timer may also ring some 0.1 ms too soon.
        self._opened_ns = at_ns = min(at_ns, time.perf_counter_ns())
        self.on_release(at_ns)
        for future in self._waiting:
            if not future.done():
                future.set_result(at_ns)

    def finish(self) -> None:
        """End a sustained phase: nobody begins anything more."""
        self._finish.set()

    async def pause(self, seconds: float) -> bool:
        """Sleep, but no longer than to the end of the phase; True if the phase goes on."""
        try:
            async with asyncio.timeout(seconds):  # not wait_for, which can swallow a cancellation before Python 3.12
                await self._finish.wait()
        except TimeoutError:
            return True
        return False

    def _tell(self) -> None:
        self.on_change(len(self._waiting), self._done)


gate = Gate()
"""This process's starting line."""
