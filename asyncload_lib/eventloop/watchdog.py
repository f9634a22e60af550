"""A native thread that looks at the loop's thread while the loop is late.

The heartbeat writes its time into a `Pulse` and puts the watchdog's alarm off: while the loop is healthy the watchdog
sleeps. When a beat stays away for `patience` it takes the stack of the loop's thread, again and again until the loop
beats. It needs the GIL for that, for some microseconds. A C call that keeps the GIL keeps the watchdog out too; CPython
then hands the GIL over at the end of that very call (the eval breaker is read after each call), so the one stack there
is still shows the right line.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FrameType

from .alarm import Alarm
from .clocks import ThreadMeter, steal_ns, thread_cpu_ns
from .native import native, start_native_thread
from .stacks import Position, callback_frames, positions

__all__ = ["Late", "Pulse", "Sample", "Segment", "Stall", "Watchdog"]

MS = 1_000_000
CLOSE_WATCH_NS = MS
LONG_WATCH_NS = 50 * MS
STEP_NS = MS // 4
START_S = 1.0
HURRY_S = 0.0005
MAX_OTHER_THREADS = 16


@dataclass(slots=True)
class Late:
    """A beat that came late, as the loop's thread measured it: the beat before, this one, and what it used between."""

    before_ns: int
    now_ns: int
    usual_gap_ns: int
    cpu_ns: int
    run_delay_ns: int

    @property
    def length_ns(self) -> int:
        """Length of the stall: it began somewhere between two beats, half a usual gap after the last on average."""
        return max(0, self.now_ns - self.before_ns - self.usual_gap_ns // 2)


@dataclass(slots=True)
class Pulse:
    """What the heartbeat and the watchdog share; each field has one writer, and the GIL orders them."""

    beat_ns: int
    cpu_ns: int
    """CPU time of the loop's thread at that beat."""
    base: CodeType | None = None
    late: deque[Late] = field(default_factory=deque)
    discard: list[FrameType] = field(default_factory=list)
    """Frames that the watchdog held. Only the loop's thread lets them go: their locals may have finalizers."""


@dataclass(slots=True)
class Sample:
    """One look at the loop's thread.

    since_ns      from when on one C call is known to have been running; `at_ns` if that is not known
    run_delay_ns  how long the loop's thread has waited for a CPU so far, in its whole life
    """

    at_ns: int
    since_ns: int
    run_delay_ns: int
    stack: tuple[Position, ...]
    waits_for_gil: bool | None
    others: dict[int, tuple[Position, ...]]


@dataclass(slots=True)
class Segment:
    """Consecutive samples of one callback, known by its outermost frame: held, so that no later one gets its address.

    Inner frames are not held: their locals (50 MB just parsed) would live on until the next beat. `idle`: no callback.
    """

    callback: FrameType | None
    task: str | None
    samples: list[Sample]
    idle: bool

    @property
    def seen_ns(self) -> int:
        """How long the callback was seen to run, from the first sample to the last, without waits for a CPU."""
        first, last = self.samples[0], self.samples[-1]
        return last.at_ns - first.since_ns - (last.run_delay_ns - first.run_delay_ns)


@dataclass(slots=True)
class Stall:
    """All that was seen of one late beat."""

    late: Late
    segments: list[Segment]
    samples: int
    gil_share: float | None
    witness_ns: int
    witness_delay_ns: int
    steal_ns: int
    holder: tuple[str, tuple[Position, ...], int] | None
    """Name, stack and CPU time (ns) of the other thread that used the CPU most."""


class Watchdog:
    """Watches one thread; `on_stall` is called in the watchdog's own thread, once for each late beat."""

    def __init__(
        self,
        meter: ThreadMeter,
        pulse: Pulse,
        patience_ns: int,
        task_name: Callable[[], str | None],
        on_stall: Callable[[Stall], None],
    ) -> None:
        self._meter = meter
        self._pulse = pulse
        self._patience_ns = patience_ns
        self._task_name = task_name
        self._on_stall = on_stall
        self._alarm = Alarm()
        self._awake = native("_thread", "allocate_lock")()
        self._awake.acquire()
        self._ended = False
        self.failure = ""
        self._segments: list[Segment] = []
        self._waits: deque[tuple[int, int, int]] = deque(maxlen=256)
        self._threads: dict[int, int] = {}
        self._steal_ns = 0
        self._ident = 0
        self._switch_s: float | None = None

    def start(self) -> None:
        """Begin to watch; returns when the thread does, some 0.1 ms later."""
        start_native_thread(self._run)
        self._awake.acquire(True, START_S)

    def beaten(self, look: bool) -> None:
        """The loop has beaten: be patient again; or, if there is something to `look` at, come now."""
        if look:
            self._alarm.ring()
        else:
            self._alarm.set(self._patience_ns)

    def stop(self) -> None:
        """Let the thread end by itself, at once."""
        self._ended = True
        self._alarm.ring()

    def _run(self) -> None:
        me = ThreadMeter()
        self._ident = me.ident
        delay = me.run_delay_ns()
        self._awake.release()
        try:
            while not self._ended:
                self._alarm.wait()
                now, due = time.perf_counter_ns(), self._alarm.due_ns
                delay, before = me.run_delay_ns(), delay
                gil_wait = max(0, now - due - (delay - before))
                if now - due > MS // 2:
                    self._waits.append((due, gil_wait, delay - before))
                # Waited for the GIL longer than the switch interval while the loop's thread was on a CPU: from then on
                # it reached no bytecode boundary, so it was inside one C call.
                off_cpu = max(0, now - self._pulse.beat_ns - (self._meter.cpu_ns() - self._pulse.cpu_ns))
                self._look(now, max(0, gil_wait - self._switch_ns() - off_cpu))
                if not self._ended:
                    self._alarm.set(self._next_look_ns(now))
        except Exception as error:  # without the watchdog there is no proof: the report must say so
            self.failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._hurry(False)
            self._alarm.close()
            me.close()
            self._meter.close()

    def _next_look_ns(self, now: int) -> int:
        # In whole steps, for the alarm keeps one timer value for each; never longer than the heartbeat itself allows.
        overdue = now - self._pulse.beat_ns - self._patience_ns
        wait = -overdue if overdue < 0 else min(overdue // 4, LONG_WATCH_NS)
        return max(CLOSE_WATCH_NS, wait // STEP_NS * STEP_NS)

    def _look(self, now: int, proven: int) -> None:
        pulse = self._pulse
        while pulse.late:
            # Peek, settle, then pop: whoever waits for the deque to be empty must find the stall counted.
            self._on_stall(self._settled(pulse.late[0]))
            pulse.late.popleft()
        overdue = now - pulse.beat_ns >= self._patience_ns
        self._hurry(overdue)
        if overdue:
            self._sample(now, proven)
        elif self._segments:
            self._let_go(self._segments)
            self._segments = []
        else:
            self._threads = {ident: thread_cpu_ns(ident) for ident in sys._current_frames()}
            self._steal_ns = steal_ns()

    def _hurry(self, overdue: bool) -> None:
        """Ask for the GIL sooner while a beat is overdue: with the usual 5 ms a stall of 12 ms is seen once or never.

        The switch interval belongs to the whole process: it goes back when the loop beats, unless others changed it.
        """
        if overdue and self._switch_s is None and sys.getswitchinterval() > HURRY_S:
            self._switch_s = sys.getswitchinterval()
            sys.setswitchinterval(HURRY_S)
        elif not overdue and self._switch_s is not None:
            if abs(sys.getswitchinterval() - HURRY_S) < 1e-6:
                sys.setswitchinterval(self._switch_s)
            self._switch_s = None

    def _switch_ns(self) -> int:
        return int((self._switch_s or sys.getswitchinterval()) * 1e9)

    def _sample(self, now: int, proven: int) -> None:
        waits = self._meter.waits_for_gil()
        current = sys._current_frames()
        frames = callback_frames(current.pop(self._meter.ident, None), self._pulse.base)
        current.pop(self._ident, None)
        others = {}
        if waits is not False:
            chosen = list(current.items())[:MAX_OTHER_THREADS]
            others = {ident: positions(callback_frames(frame, None)) for ident, frame in chosen}
        sample = Sample(now, now - proven, self._meter.run_delay_ns(), positions(frames), waits, others)
        last = self._segments[-1] if self._segments else None
        if last is not None and frames and last.callback is frames[0]:
            last.samples.append(sample)
        else:
            callback = frames[0] if frames else None
            self._segments.append(Segment(callback, self._task_name() if frames else None, [sample], not frames))

    def _settled(self, late: Late) -> Stall:
        inside = self._segments
        for segment in inside:
            segment.samples = [s for s in segment.samples if late.before_ns <= s.at_ns]
        self._segments = []
        samples = [sample for segment in inside for sample in segment.samples]
        known = [sample.waits_for_gil for sample in samples if sample.waits_for_gil is not None]
        waits = [wait for wait in self._waits if late.before_ns < wait[0] <= late.now_ns]
        stall = Stall(
            late=late,
            segments=[segment for segment in inside if segment.samples],
            samples=len(samples),
            gil_share=sum(known) / len(known) if known else None,
            witness_ns=sum(wait[1] for wait in waits),
            witness_delay_ns=sum(wait[2] for wait in waits),
            steal_ns=max(0, steal_ns() - self._steal_ns) if self._steal_ns else 0,
            holder=self._holder(samples),
        )
        self._let_go(inside)
        return stall

    def _holder(self, samples: list[Sample]) -> tuple[str, tuple[Position, ...], int] | None:
        current = sys._current_frames()
        used = {
            ident: thread_cpu_ns(ident) - self._threads.get(ident, 0)
            for ident in current
            if ident not in (self._ident, self._meter.ident)
        }
        if not used:
            return None
        ident = max(used, key=lambda key: used[key])
        seen = [sample.others[ident] for sample in samples if ident in sample.others]
        stack = seen[-1] if seen else positions(callback_frames(current[ident], None))
        return _thread_name(ident, stack), stack, used[ident]

    def _let_go(self, segments: list[Segment]) -> None:
        for segment in segments:
            if segment.callback is not None:
                self._pulse.discard.append(segment.callback)
                segment.callback = None


def _thread_name(ident: int, stack: tuple[Position, ...]) -> str:
    # threading.enumerate() takes a lock that gevent may have replaced; this must be callable from a native thread.
    thread = getattr(threading, "_active", {}).get(ident)
    if thread is not None:
        return str(thread.name)
    return f"thread in {stack[0][0].co_qualname}" if stack else f"thread {ident}"
