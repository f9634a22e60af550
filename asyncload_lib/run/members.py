"""The processes of a run as their messages show them: who they are, how far they are, how long they are silent."""

import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["REPORT_EARLY", "REPORT_INTERVAL_S", "Member", "Silence", "report_interval_s"]

REPORT_INTERVAL_S = 1.0
"""The most that a killed worker takes with it: what it measured in so much time."""

REPORT_EARLY = 0.9
"""After what part of the interval the next report is made: to make it and to take it in needs time as well."""

REPORTS_PER_S = 300
"""Taking in a report of 20 endpoints costs about 0.2 ms (bench/scale.py): so many take less than a tenth of a core."""

_DRIFT = 1e-4
"""How fast two clocks may drift apart: 100 us a second, more than quartz and NTP's steering do."""


def report_interval_s(members: int) -> float:
    """Return the interval in which each of so many members reports: a second, and longer beyond `REPORTS_PER_S`."""
    return max(REPORT_INTERVAL_S, members / REPORTS_PER_S)


class Silence:
    """Counts own ticks since somebody was last heard.

    Ticks, not time: a process that was itself frozen finds the others' messages waiting, and blames nobody.
    """

    TICK_S = 0.5
    LIMIT_TICKS = 10
    """Five seconds; each side is heard at least once a second."""

    __slots__ = ("ticks",)

    def __init__(self) -> None:
        self.ticks = 0

    def heard(self) -> None:
        """Begin to count anew."""
        self.ticks = 0

    def tick(self) -> bool:
        """Count one tick, `TICK_S` after the one before; True when it is the one that makes the silence too long."""
        self.ticks += 1
        return self.ticks == self.LIMIT_TICKS


@dataclass
class Member:
    """One process of a run."""

    id: str
    hello: dict[str, Any] = field(default_factory=dict)
    """How it has introduced itself; empty as long as it has not."""
    is_late: bool = False
    """Whether it joined when the run had begun."""

    phase: str | None = None
    users: int = 0
    waiting: int = 0
    """How many of its users have come to the gate of the phase."""
    done: int = 0
    """How many of them have done their part."""

    offset_ns: int = 0
    """Its clock minus ours, known to within half of `round_trip_ns`."""
    round_trip_ns: int | None = None
    measured_ns: int = 0
    pongs: int = 0

    token: int = 0
    """The newest request for a final report that it has answered."""
    final: dict[str, Any] = field(default_factory=dict)
    """Its last report on the whole run."""
    watched: dict[str, Any] = field(default_factory=dict)
    """The same where its monitors have begun anew when all others' did: then they tell of the scenario at hand."""
    last_report: float | None = None

    last_heard: float = field(default_factory=time.time)
    silence: Silence = field(default_factory=Silence)
    live: bool = True
    left: bool = False
    """Whether it ended in order, early."""
    lost_at: float | None = None
    """When it was last heard before it was first lost; that stays, for what it did not do meanwhile is missing."""
    lost_why: str = ""
    lost_in: str | None = None
    """The phase in which it was lost last, and in which nobody waits for it any more."""

    def hear(self) -> None:
        """Note that it lives."""
        self.last_heard = time.time()
        self.silence.heard()
        self.live = not self.left

    def lose(self, why: str, phase: str) -> None:
        """Note that it lives no longer, as far as can be known."""
        self.live = False
        self.lost_in, self.phase = phase, None
        if self.lost_at is None:
            self.lost_at, self.lost_why = self.last_heard, why

    @property
    def state(self) -> str:
        """What became of it, in one word."""
        if self.lost_at is None:
            return "complete" if self.final else "running"
        return "left" if self.left else "returned" if self.live else "lost"

    def measure_clock(self, sent_ns: int, clock_ns: int, now_ns: int) -> None:
        """Take one round trip: our clock when asked, its clock when it answered, ours now.

        Kept is what is known best: half the round trip, and what two clocks may have drifted apart since.
        """
        self.pongs += 1
        round_trip_ns = now_ns - sent_ns
        if self.round_trip_ns is not None:
            known_within_ns = self.round_trip_ns / 2 + (now_ns - self.measured_ns) * _DRIFT
            if round_trip_ns / 2 >= known_within_ns:
                return
        self.round_trip_ns, self.measured_ns = round_trip_ns, now_ns
        self.offset_ns = clock_ns - sent_ns - round_trip_ns // 2
