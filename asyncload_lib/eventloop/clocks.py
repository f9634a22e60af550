"""What the kernel knows of one thread: its CPU time, how long it waited for a CPU, and whether it waits for the GIL.

Three questions tell a blocked loop from a busy machine, and Linux answers each exactly:
  CPU time       the thread's own CPU clock (POSIX `pthread_getcpuclockid`);
  run delay      `/proc/self/task/<tid>/schedstat`, second field: nanoseconds runnable without getting a CPU
                 (Documentation/scheduler/sched-stats.rst);
  wait for what  `/proc/self/task/<tid>/syscall`: a futex inside CPython's `_PyRuntime` is the GIL, another is a lock.
Elsewhere the last two are unknown (0 and None), and attribution falls back on what the watchdog itself felt.
"""

import ctypes
import os
import sys
import time
from functools import cache
from itertools import chain, starmap, tee
from typing import Any, NamedTuple

from .native import native

__all__ = [
    "ASLEEP",
    "ON_GIL",
    "RUNNING",
    "DelayMeter",
    "StealMeter",
    "Stopwatch",
    "ThreadMeter",
    "state_of",
    "threads_cpu_ns",
]

ON_GIL, ASLEEP, RUNNING = "on the GIL", "asleep", "running"

FUTEX_SYSCALL = {"x86_64": b"202", "aarch64": b"98"}
"""Number of the futex system call by machine; on others a thread's wait for the GIL is judged by the watchdog's own."""
_FUTEX = FUTEX_SYSCALL.get(os.uname().machine) if hasattr(os, "uname") else None
BUFFER_BYTES = 192
"""Read of each file: its first line is all that is used."""
CLOCK_TOLERANCE_NS = 20_000_000
"""By so much two clocks may differ that are read one after the other, on a machine that takes the CPU away between."""
RUNTIME_SPAN_BYTES = 1 << 20
"""`_PyRuntime` holds the GIL's mutex and condition; locks of Python objects live on the heap, far from it."""


class Stopwatch:
    """Two clocks since it was made: the one that measures, which a test may freeze or replace, and the kernel's."""

    def __init__(self) -> None:
        self._began = _both_clocks()

    def failure(self) -> str:
        """Return in what the two disagree: on a clock that stands still, no stall takes any time. "" if they do not."""
        measured, passed = (now - then for now, then in zip(_both_clocks(), self._began, strict=True))
        if measured > 0 and abs(measured - passed) <= max(CLOCK_TOLERANCE_NS, passed // 10):
            return ""
        words = f"{measured / 1e9:g} s have passed, and in truth {passed / 1e9:g} s"
        return f"The clock failed: by `time.perf_counter_ns`, {words}"


def _both_clocks() -> tuple[int, int]:
    kernel = getattr(time, "clock_gettime_ns", None)  # not on Windows
    measured = time.perf_counter_ns()
    return measured, measured if kernel is None else kernel(time.CLOCK_MONOTONIC)


class ThreadMeter:
    """Clocks of the thread that creates it, or of the thread of another meter, for one thread to read.

    Times in nanoseconds. `close()` gives the files back; readings after it, or after the thread's end, are 0 or None.
    Two threads may not read one meter: they would share its buffer. Each takes its own.
    """

    def __init__(self, of: "ThreadMeter | None" = None) -> None:
        self.ident: int = native("_thread", "get_ident")() if of is None else of.ident
        self.tid: int = native("_thread", "get_native_id")() if of is None else of.tid
        self._clock: int | None = None
        if of is not None:
            self._clock = of._clock
        elif hasattr(time, "pthread_getcpuclockid"):
            self._clock = time.pthread_getcpuclockid(self.ident)
        self._schedstat: int | None = None
        self._syscall: int | None = None
        self._buffer = ctypes.create_string_buffer(BUFFER_BYTES)
        if (calls := _c_calls()) is not None:
            self._calls = calls
            self._schedstat = _open(f"/proc/self/task/{self.tid}/schedstat")
            self._syscall = _open(f"/proc/self/task/{self.tid}/syscall") if _FUTEX else None

    def cpu_ns(self) -> int:
        """CPU time of this thread; 0 where the system has no such clock, or the thread has ended."""
        return 0 if self._clock is None else _read(self._clock)

    def run_delay_ns(self) -> int:
        """Total time this thread was runnable and had no CPU."""
        return self.scheduling()[0]

    def scheduling(self) -> tuple[int, int]:
        """The run delay, and how many times the thread got a CPU."""
        fields = self._fields(self._schedstat) if self._schedstat is not None else []
        return (int(fields[1]), int(fields[2])) if len(fields) > 2 else (0, 0)

    def state(self) -> str | None:
        """ON_GIL, ASLEEP (in another system call) or RUNNING (on a CPU or waiting for one) right now; None: unknown."""
        return None if self._syscall is None else _state(self._fields(self._syscall), self._calls.runtime)

    def _fields(self, file: int) -> list[bytes]:
        # The GIL stays held: os.pread would let it go, and with that change who waits for it, which is asked here.
        return self._calls.read(file, self._buffer).split()

    def close(self) -> None:
        """Give the open files back."""
        files = (self._schedstat, self._syscall)
        self._schedstat = self._syscall = None
        for file in files:
            if file is not None:
                os.close(file)


def threads_cpu_ns() -> dict[tuple[int, int], int]:
    """Return the CPU time (ns) of every living Python thread; {} where the system has no such clocks.

    The keys are pairs: the thread's identifier, and that of its clock. The first alone may belong to another thread
    after this one's end.

    Call it with `uncollected` held. `pthread_getcpuclockid` reads freed memory when its thread has ended. A thread in
    the list cannot end while the GIL is held, but between two bytecodes another thread may get the GIL. So everything
    from the list of threads to the last clock is one C call.
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        return {}
    idents, again = tee(chain.from_iterable(starmap(sys._current_frames, [()])))
    try:
        clocks = list(zip(idents, map(time.pthread_getcpuclockid, again), strict=True))
    except OSError:
        return {}
    return {(ident, clock): _read(clock) for ident, clock in clocks}


def state_of(clock: int) -> str | None:
    """Return the state of another thread, as `ThreadMeter.state` does, by the identifier of its CPU clock.

    The GIL stays held, so that a thread that waits for it is still seen waiting.
    """
    calls = _c_calls()
    if calls is None or _FUTEX is None:
        return None
    tid = ~(clock >> 3)  # the reverse of the kernel's `MAKE_THREAD_CPUCLOCK` (linux/posix-timers.h)
    file = calls.open(b"/proc/self/task/%d/syscall" % tid, os.O_RDONLY | os.O_CLOEXEC)
    if file < 0:
        return None
    buffer = ctypes.create_string_buffer(BUFFER_BYTES)
    fields = calls.read(file, buffer).split()
    calls.close(file)
    return _state(fields, calls.runtime)


def _state(fields: list[bytes], runtime: int) -> str | None:
    if not fields:
        return None
    if fields[0] == b"running":
        return RUNNING
    if fields[0] == _FUTEX and 0 <= int(fields[1], 16) - runtime < RUNTIME_SPAN_BYTES:
        return ON_GIL
    return ASLEEP


def _read(clock: int) -> int:
    try:
        return time.clock_gettime_ns(clock)
    except OSError:  # its thread has ended since
        return 0


class _FileMeter:
    """Reads the kernel's figures from one file that it keeps open."""

    def __init__(self, path: str) -> None:
        self._file = _open(path)
        self._buffer = ctypes.create_string_buffer(BUFFER_BYTES)
        self._calls = _c_calls()

    def _fields(self, maxsplit: int = -1) -> list[bytes]:
        if self._calls is None or self._file is None:
            return []
        # The GIL stays held: given up here, it comes back only after a switch interval if the loop is busy.
        return self._calls.read(self._file, self._buffer).split(maxsplit=maxsplit)

    def close(self) -> None:
        """Give the open file back."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


class StealMeter(_FileMeter):
    """Time the hypervisor gave to others while this machine's CPUs had work, in steps of one tick (10 ms)."""

    def __init__(self) -> None:
        super().__init__("/proc/stat")

    def steal_ns(self) -> int:
        """Return that time since the machine started; 0 where it is not known."""
        try:
            return int(self._fields(maxsplit=9)[8]) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
        except (IndexError, ValueError):
            return 0


class DelayMeter(_FileMeter):
    """Time for which the main thread of another process was runnable and had no CPU."""

    def __init__(self, process: int) -> None:
        super().__init__(f"/proc/{process}/schedstat")

    def run_delay_ns(self) -> int:
        """Return that time since the process started; 0 where it is not known, or the process has ended."""
        fields = self._fields()
        return int(fields[1]) if len(fields) > 1 else 0


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None


class _CCalls(NamedTuple):
    """System calls that keep the GIL, and the address of `_PyRuntime`."""

    open: Any
    pread: Any
    close: Any
    runtime: int

    def read(self, file: int, buffer: Any) -> bytes:
        """Return what an open file begins with; nothing if it cannot be read."""
        length = self.pread(file, buffer, BUFFER_BYTES, 0)
        return bytes(buffer.raw[: max(0, length)])


@cache
def _c_calls() -> _CCalls | None:
    """Return them; None on a system that lacks one."""
    try:
        libc = ctypes.PyDLL(None)
        libc.pread.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_long]
        libc.pread.restype = ctypes.c_ssize_t
        runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
        return _CCalls(libc.open, libc.pread, libc.close, runtime)
    except (AttributeError, OSError, TypeError, ValueError):
        return None
