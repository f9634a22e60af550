"""What all other threads have used of the CPU, and the hypervisor has stolen, since a moment when the loop was healthy.

Whoever used the CPU since then, while the loop waited for the GIL, is the one who kept it.
"""

import time
from collections.abc import Iterable

from .clocks import StealMeter, ThreadMeter, threads_cpu_ns
from .frame_safety import uncollected
from .stall import Late

__all__ = ["Baseline"]

HELD_NS = 1_000_000
"""If all other threads together used less CPU time since the baseline, none of them kept the GIL for long."""
RIVAL_SHARE = 0.01
"""Other threads are rivals for the GIL if together they used this share of a CPU from one baseline to the next."""


class Baseline:
    """Taken again and again, by the watchdog; "others" are all threads but the loop's and the watchdog's own.

    `loop`: the meter of the loop's thread. `taken_ns`: when it was taken last. `has_rivals`: whether others want the
    GIL, too; assumed until a baseline shows that they do not. `is_calm`: whether from one baseline to the next neither
    others were busy nor the hypervisor stole anything.
    """

    def __init__(self, loop: ThreadMeter) -> None:
        self._loop = loop
        self._watchdog: ThreadMeter | None = None
        self._steal = StealMeter()
        self._steal_ns = self._steal.steal_ns()
        self._charged_ns = 0
        self._threads: dict[tuple[int, int], int] = {}
        self._others_ns = 0
        self.taken_ns = 0
        self.has_rivals = True
        self.is_calm = False

    def begin(self, watchdog: ThreadMeter) -> None:
        """Take it for the first time; from here on the watchdog's thread is none of the others."""
        self._watchdog = watchdog
        self.take(time.perf_counter_ns())

    def take(self, now: int) -> None:
        """Read the CPU time of all threads, and see from it whether others were busy since the last time."""
        with uncollected:
            threads = threads_cpu_ns()
        used_ns = sum(self._used(threads).values())
        self.has_rivals = not self._threads or used_ns >= RIVAL_SHARE * (now - self.taken_ns)
        steal_ns = self._steal.steal_ns()
        self.is_calm = not self.has_rivals and steal_ns == self._steal_ns
        self._threads, self.taken_ns, self._others_ns = threads, now, self._others_cpu_ns()
        self._steal_ns, self._charged_ns = steal_ns, 0

    def close(self) -> None:
        """Give the open file back."""
        self._steal.close()

    def others_ran(self) -> bool:
        """Whether others used enough CPU time since then for one to have kept the GIL; for any thread."""
        return self._others_cpu_ns() - self._others_ns >= HELD_NS

    def used_by_others(self) -> dict[tuple[int, int], int]:
        """CPU time (ns) of each other thread since then, by the keys of `threads_cpu_ns`. Call with `uncollected` held.

        For any thread.
        """
        return self._used(threads_cpu_ns())

    def stolen_ns(self, late: Late, unsettled: Iterable[Late]) -> int:
        """How much may have been stolen during a late beat: its share of what was stolen since then.

        The share is by length, among the late beats that are not settled yet: each would be excused by the whole.
        """
        stolen_ns = self._steal.steal_ns() - self._steal_ns - self._charged_ns
        if stolen_ns <= 0:
            return 0
        others_ns = sum(other.length_ns for other in unsettled if other is not late)
        return stolen_ns * late.length_ns // max(1, late.length_ns + others_ns)

    def charge(self, stolen_ns: int) -> None:
        """Hold so much of what was stolen against a late beat, once and for all."""
        self._charged_ns += stolen_ns

    def _others_cpu_ns(self) -> int:
        """CPU time of all others, those that have ended or are not Python's included."""
        own_ns = self._watchdog.cpu_ns() if self._watchdog is not None else 0
        return time.process_time_ns() - self._loop.cpu_ns() - own_ns

    def _used(self, threads: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
        known = (self._loop.ident, self._watchdog.ident if self._watchdog is not None else 0)
        return {thread: cpu - self._threads.get(thread, 0) for thread, cpu in threads.items() if thread[0] not in known}
