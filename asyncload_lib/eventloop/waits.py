"""One wait of the watchdog, and what its wakes prove: a C call that kept the GIL in one piece, or a stopped process."""

from typing import NamedTuple

from .stall import Late

__all__ = ["Wait", "is_one_call", "is_suspended"]

NS = 1e9
SURE_TO_WAKE_S = 0.0005
"""In a shorter switch interval than this a thread may not get a CPU in time to wake."""
SUSPENDED_WAKES = 8
"""How often a thread that waits for the GIL should have woken before few wakes prove that the process stood still."""


class Wait(NamedTuple):
    """One wait of the watchdog, and how long it waited for the GIL, for a CPU, and for a stopped process to go on.

    `spent_ns`: CPU time that the wait itself cost: a thread that waits for the GIL wakes once in each switch interval.
    """

    since_ns: int
    until_ns: int
    gil_ns: int
    cpu_ns: int
    suspended_ns: int
    spent_ns: int

    def reaches(self, late: Late) -> bool:
        """Whether some of it fell into a late beat."""
        return self.since_ns < late.now_ns and late.before_ns < self.until_ns

    def within(self, late: Late) -> "Wait":
        """Return the part that fell into a late beat which it reaches; the rest may be that of the next one."""
        since_ns, until_ns = max(self.since_ns, late.before_ns), min(self.until_ns, late.now_ns)
        share = (until_ns - since_ns) / (self.until_ns - self.since_ns)
        return Wait(since_ns, until_ns, *(int(share * part_ns) for part_ns in self[2:]))


def is_one_call(wakes: int, gil_wait_ns: int, interval_s: float) -> bool:
    """Whether the GIL was kept in one piece for `gil_wait_ns`, judged by how often the thread that waited for it woke.

    It wakes once in each switch interval (`interval_s`), and at each release; where the loop's thread takes the GIL
    back before the waiting one runs, CPython forgets the request for it, too.
    """
    return wakes <= 2 * (gil_wait_ns / NS // max(interval_s, SURE_TO_WAKE_S) + 2)


def is_suspended(wakes: int, gil_wait_ns: int, interval_s: float) -> bool:
    """Whether the process stood still (SIGSTOP, a frozen container) where a thread seems to have waited for the GIL.

    A thread that waits for the GIL wakes once in each switch interval (`interval_s`); a stopped one wakes only when it
    goes on. No wake at all means that the system does not count them.
    """
    expected = gil_wait_ns / NS / max(interval_s, SURE_TO_WAKE_S)
    return expected >= SUSPENDED_WAKES and 0 < wakes < expected / 4
