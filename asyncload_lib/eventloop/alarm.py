"""An alarm clock that one thread sets again and again without waking the other, which sleeps on it.

On Linux it is a timerfd: to put the alarm off costs the heartbeat one system call, and while the loop is healthy the
sleeper is never woken. Elsewhere the sleeper wakes whenever the time that it knows has come, and reads it again.
"""

import ctypes
import os
import time
from collections.abc import Callable
from functools import partial

from .native import native

__all__ = ["Alarm"]

CLOCK_MONOTONIC = 1
NS = 1_000_000_000
MOST_CALLS = 64
"""Prepared system calls that are kept, one for each delay."""


class _Spec(ctypes.Structure):
    """`struct itimerspec`: repeat interval (unused) and first expiry, relative."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """Rings once, `delay_ns` after the last `set()`, or at a `ring()`.

    `due_ns` (perf_counter_ns): when it rings by the last `set()`.
    """

    def __init__(self) -> None:
        self.due_ns = time.perf_counter_ns()
        self._rung = False
        self._calls: dict[int, Callable[[], object]] = {}
        self._file = -1
        try:
            # The GIL is kept: a heartbeat that gives it up here would wait for it behind every busy thread.
            libc = ctypes.PyDLL(None)
            self._settime = libc.timerfd_settime
            self._file = libc.timerfd_create(CLOCK_MONOTONIC, os.O_CLOEXEC)
        except (AttributeError, OSError, TypeError):
            pass
        self._bell = native("_thread", "allocate_lock")()
        self._bell.acquire()

    def set(self, delay_ns: int, now_ns: int) -> None:
        """Ring `delay_ns` from now, and not before. A hot path: the system call is prepared once for each delay."""
        self.due_ns = now_ns + delay_ns
        arm = self._calls.get(delay_ns)
        if arm is None:
            arm = self._prepared(delay_ns)
        arm()

    def ring(self) -> None:
        """Wake the sleeper now, or before it sleeps again."""
        if self._file >= 0:
            self._prepared(1)()
            return
        self._rung = True
        try:
            self._bell.release()
        except RuntimeError:
            pass  # rung already, and not heard yet

    def wait(self) -> None:
        """Sleep until the alarm rings; for one thread."""
        if self._file >= 0:
            os.read(self._file, 8)
            return
        while not self._rung and (left := self.due_ns - time.perf_counter_ns()) > 0:
            self._bell.acquire(True, left / NS)
        self._rung = False

    def close(self) -> None:
        """Give the timer back; only the sleeper may, for it alone knows that it does not sleep on it."""
        file, self._file = self._file, -1
        self._calls = {}
        if file >= 0:
            os.close(file)

    def _prepared(self, delay_ns: int) -> Callable[[], object]:
        if self._file < 0:
            return _nothing
        if len(self._calls) > MOST_CALLS:
            self._calls = {}
        seconds, rest = divmod(max(delay_ns, 1), NS)
        spec = ctypes.byref(_Spec(0, 0, seconds, rest))
        call = self._calls[delay_ns] = partial(self._settime, self._file, 0, spec, None)
        return call


def _nothing() -> None:
    """Stand for the system call where there is none."""
