"""The records of one stall: what the heartbeat measured and what the watchdog saw. Times in nanoseconds."""

from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from types import CodeType, FrameType

from .clocks import ON_GIL, RUNNING
from .places import Position

__all__ = ["Holder", "Late", "Pulse", "Sample", "Segment", "Stall"]


@dataclass(slots=True)
class Late:
    """A beat that came late, as the loop's thread measured it: the beat before, this one, and what it used between."""

    before_ns: int
    now_ns: int
    usual_gap_ns: int
    cpu_ns: int
    run_delay_ns: int
    signs_ns: tuple[int, ...] = ()
    """Signs of life in between that came after the watchdog had lost patience: what it saw before each had ended."""
    holder: "Holder | None" = None
    """Who may have kept the GIL, as the loop's thread saw it when it had the GIL back."""
    has_long_turns: bool = False
    """Whether beats in time are late by more than a timer's slack: there is a queue of callbacks before each."""

    @property
    def off_cpu_ns(self) -> int:
        """How long the loop's thread was asleep in between."""
        return max(0, self.length_ns - self.cpu_ns - self.run_delay_ns)

    @property
    def begun_ns(self) -> int:
        """When the stall began: somewhere between two beats, half a usual gap after the last on average."""
        return min(self.now_ns, self.before_ns + self.usual_gap_ns // 2)

    @property
    def length_ns(self) -> int:
        """Length of the stall, from then on."""
        return self.now_ns - self.begun_ns

    def sign_between(self, after_ns: int, until_ns: int) -> int | None:
        """Return the first sign of life after one moment and not after the other."""
        return next((sign for sign in self.signs_ns if after_ns < sign <= until_ns), None)


@dataclass(slots=True)
class Pulse:
    """What the heartbeat and the watchdog share; each field has one writer, and the GIL orders them."""

    beat_ns: int
    """When the loop last beat."""
    cpu_ns: int
    """CPU time of the loop's thread at that beat."""
    quiet_ns: int = 0
    """Until then the watchdog need not hear of signs of life."""
    wants_signs: bool = True
    """Whether signs of life are of use: turns of the loop are so long that the watchdog would look at them, or nothing
    is watched yet."""
    hears_signs: bool = True
    """Whether signs of life can be trusted: each is given where a callback begins."""
    alive_ns: int = 0
    """The newest beat or sign of life that the watchdog was told of: its patience begins there."""
    begun_ns: int = 0
    """When a callback last gave a sign of life, whether the watchdog was told or not."""
    silent_ns: int = 0
    """The longest time between two signs of life since the last beat, if it was over the quiet time."""
    base: CodeType | None = None
    """Code of the frame that runs the loop (see `loop_base`)."""
    signs_ns: list[int] = field(default_factory=list)
    """Since the last beat, each sign of life that came after the watchdog had lost patience."""
    late: deque[Late] = field(default_factory=deque)
    """Late beats that the watchdog has not settled yet."""
    discard: list[object] = field(default_factory=list)
    """Frames and tasks that the watchdog held. Only the loop's thread lets them go: what they hold may have finalizers.
    """


@dataclass(slots=True)
class Holder:
    """The other thread that used the CPU most since the last baseline: whoever kept the GIL did.

    `has_ended`: it slept on something else when it was looked at, so what kept the GIL was over, and the stack is of
    what came after.
    """

    name: str
    stack: tuple[Position, ...]
    cpu_ns: int
    has_ended: bool = False


@dataclass(slots=True)
class Sample:
    """One look at the loop's thread.

    at_ns         when it was taken
    since_ns      from when on one C call is known to have been running; `at_ns` if that is not known
    run_delay_ns  how long the loop's thread had waited for a CPU by then, in its whole life
    cpu_ns        how long it had had one
    state         of the loop's thread, as `ThreadMeter.state` tells
    gil_wait_ns   how long the watchdog waited for the GIL before this look
    alive_ns      the callback began at this moment or later
    """

    at_ns: int
    since_ns: int
    run_delay_ns: int
    stack: tuple[Position, ...]
    cpu_ns: int
    state: str | None
    gil_wait_ns: int
    holder: Holder | None
    alive_ns: int = 0

    @property
    def asked_ns(self) -> int:
        """From when on the callback is known to have run: if one call kept the GIL, since the watchdog asked for it."""
        return min(self.since_ns, self.at_ns - self.gil_wait_ns) if self.since_ns < self.at_ns else self.at_ns


@dataclass(slots=True)
class Segment:
    """Consecutive samples of one callback, known by its outermost frame: held, so that no later one gets its address.

    Inner frames are not held: their locals (50 MB just parsed) would live on until the next beat. `idle`: no callback.
    Samples without a stack that are not idle are of what the loop did before a callback that was about to begin.
    """

    callback: FrameType | None
    task: str | None
    samples: list[Sample]
    idle: bool

    @property
    def is_awake(self) -> bool:
        """Whether it was never seen to sleep. Its own time is then its CPU time: what a hypervisor takes from a running
        thread is in no other clock of the kernel's."""
        return all(sample.state in (ON_GIL, RUNNING) for sample in self.samples)

    @property
    def seen_ns(self) -> int:
        """How long the callback was seen to run, from the first sample to the last, without waits for CPU or GIL."""
        first, last = self.samples[0], self.samples[-1]
        on_cpu = last.cpu_ns - first.cpu_ns + (first.at_ns - first.since_ns)
        if self.is_awake:
            return on_cpu
        # A thread that seems to run may have been waiting for a CPU for long, for the kernel counts a wait at its end.
        # So it is counted only up to the last look that found it in another state.
        sure = next((index for index in range(len(self.samples), 0, -1) if self.samples[index - 1].state != RUNNING), 1)
        off = self.samples[sure - 1].run_delay_ns - first.run_delay_ns
        off += sum(_on_gil_ns(a, b) for a, b in pairwise(self.samples[:sure]))
        return max(on_cpu, self.samples[sure - 1].at_ns - first.since_ns - off)


def _on_gil_ns(earlier: Sample, later: Sample) -> int:
    """How long a thread that was seen to wait for the GIL did so since the look before."""
    used = later.cpu_ns - earlier.cpu_ns + later.run_delay_ns - earlier.run_delay_ns
    return max(0, later.at_ns - earlier.at_ns - used) if later.state == ON_GIL else 0


@dataclass(slots=True)
class Stall:
    """All that was seen of one late beat; fields that `attribution.Evidence` has in seconds are explained there."""

    late: Late
    segments: list[Segment]
    samples: int
    gil_share: float | None
    witness_ns: int
    refuted_ns: int
    witness_delay_ns: int
    steal_ns: int
    holder: Holder | None
    witness_spent_ns: int = 0
    suspended_ns: int = 0
