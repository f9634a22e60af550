"""An alarm clock that one thread sets again and again without waking the other, which sleeps on it.

On Linux a timerfd: to put the alarm off costs the heartbeat one system call, and while the loop is healthy the sleeper
is never woken. Elsewhere the sleeper wakes at each time set and looks again.
"""

import ctypes
import os
import time
from typing import Any

from .native import native

__all__ = ["Alarm"]

CLOCK_MONOTONIC = 1
NS = 1_000_000_000


class _Spec(ctypes.Structure):
    """`struct itimerspec`: repeat interval (unused) and first expiry, relative."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """Rings once, `delay_ns` after the last `set()`, or at a `ring()`; `due_ns` is of the last `set()`."""

    def __init__(self) -> None:
        self.due_ns = time.perf_counter_ns()
        self._rung = False
        self._specs: dict[int, Any] = {}
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

    def set(self, delay_ns: int) -> None:
        """Ring `delay_ns` from now, and not before."""
        self.due_ns = time.perf_counter_ns() + delay_ns
        if self._file >= 0:
            self._arm(delay_ns)

    def ring(self) -> None:
        """Wake the sleeper now, or before it sleeps again."""
        if self._file >= 0:
            self._arm(1)
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
        if file >= 0:
            os.close(file)

    def _arm(self, delay_ns: int) -> None:
        spec = self._specs.get(delay_ns)
        if spec is None:
            if len(self._specs) > 64:
                self._specs.clear()
            seconds, rest = divmod(max(delay_ns, 1), NS)
            spec = self._specs[delay_ns] = ctypes.byref(_Spec(0, 0, seconds, rest))
        self._settime(self._file, 0, spec, None)
