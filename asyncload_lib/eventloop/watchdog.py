"""A native thread that looks at the loop's thread while the loop is late.

The heartbeat writes its time into a `Pulse` and puts off the watchdog's alarm, so the watchdog sleeps while the loop is
healthy. When a beat has been missing for `patience_ns`, the watchdog takes the stack of the loop's thread, again and
again until the loop beats. Each look needs the GIL for some microseconds. A C call that keeps the GIL keeps the
watchdog out too; but CPython hands the GIL over at the end of that very call (it reads the eval breaker after each
call), so the only stack there is still shows the right line.

What was seen is judged ("settled") when the loop beats in time again. Before, there is only time to look: to settle a
stall gives the GIL up, and the watchdog would get it back only at the end of the loop's next call.
"""

import sys
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import NamedTuple

from .alarm import Alarm
from .baseline import Baseline
from .clocks import ASLEEP, ON_GIL, Stopwatch, ThreadMeter
from .frame_safety import Home
from .native import native, start_native_thread
from .sight import Sight, View
from .stacks import has_run, is_bare
from .stall import Holder, Late, Pulse, Sample, Segment, Stall
from .switching import switch_interval
from .waits import Wait, is_one_call, is_suspended

__all__ = ["Watchdog", "Watched"]

MS = 1_000_000
NS = 1e9
CLOSE_WATCH_NS = MS
LONG_WATCH_NS = 50 * MS
"""Shortest and longest time between two looks at a loop that is late."""
LENGTH_PARTS = 10
"""The next look comes after this part of the time for which the callback has been seen already. Where other callbacks
ran before and behind it, its length is then known to within a tenth, half of that at either end."""
STEP_NS = MS // 4
"""The alarm is set to multiples of this, for it prepares one system call for each delay."""
START_S = 1.0
"""Longest time that `start()` waits for the thread to begin."""
STOP_S = 0.1
"""Longest time that `stop()` waits for it to end."""
HURRY_S = 0.001
"""The switch interval while a beat is overdue. With the usual 5 ms a stall of 12 ms is seen once or never. With 0.5 ms
the loop has the GIL back before a look has ended, which takes that long on a slow machine."""
HURRY_SHARE = 0.1
"""The same as a share of the limit, where that is less: two looks must fit into it."""
LONGEST_INTERVAL_SHARE = 0.5
"""The switch interval is never longer than this share of the limit. A C call that keeps the GIL is seen only at its
end, and it is proven to have run only from one interval after the watchdog asked for the GIL."""
HOLDER_SHARE = 0.9
"""Of several looks at who kept the GIL, those count that saw at least this share of the most CPU time seen."""
YOUNG_NS = 40 * MS
"""Age at which a baseline is replaced; not sooner, for to ask all threads and the system costs 0.1 ms."""
MOST_UNSETTLED = 32
"""So many late beats may wait until the loop beats in time again; with more they are settled at once. While some are
settled, a loop that blocks again has the GIL back, and the watchdog sees nothing of its next call."""
UNSEEN_NS = 2 * MS
"""If the loop ran for so long in the middle of a look, the look is taken again. The loop takes the GIL back after a
switch interval, and where a hypervisor takes the CPU away, that may be shorter than a look."""
PROVING_NS = 3 * MS // 2
"""A shorter wait counts for nothing: a thread that asks for the GIL gets it after a switch interval of 1 ms."""


class Watched(NamedTuple):
    """What a watchdog asks of the loop that it watches; for any thread."""

    task_name: Callable[[], str | None]
    is_running: Callable[[], bool]
    is_closed: Callable[[], bool]


class _Reading(NamedTuple):
    """What the kernel knows of the watchdog's own thread; as `ThreadMeter` tells."""

    run_delay_ns: int
    slices: int
    cpu_ns: int


class _Wake(NamedTuple):
    """A moment at which a look begins, and what was known of the loop's thread by then.

    cpu_ns     CPU time of the loop's thread; read before `now_ns`
    beat       `Pulse.beat_ns` and `Pulse.cpu_ns`
    alive_ns   `Pulse.alive_ns`
    begun_ns   the callback that runs began then or later
    """

    now_ns: int
    cpu_ns: int
    beat: tuple[int, int]
    alive_ns: int
    begun_ns: int


class Watchdog:
    """Watches one thread; `on_stall` is called in the watchdog's own thread, once for each late beat.

    `patience_ns`: for how long a beat may be missing; it may be changed at any time. `limit_s`: a stall of that length
    or more counts. `home`: the greenlet in which the thread's loop runs.
    """

    def __init__(
        self,
        meter: ThreadMeter,
        pulse: Pulse,
        patience_ns: int,
        limit_s: float,
        loop: Watched,
        on_stall: Callable[[Stall], None],
        home: Home | None = None,
    ) -> None:
        self._meter = ThreadMeter(meter)
        self._sight = Sight(self._meter, pulse, loop.task_name, home)
        self._pulse = pulse
        self.patience_ns = patience_ns
        self._limit_s = limit_s
        self._loop = loop
        self._on_stall = on_stall
        self.stopwatch = Stopwatch()
        self._alarm = Alarm()
        self._awake = native("_thread", "allocate_lock")()
        self._awake.acquire()
        self._gone = native("_thread", "allocate_lock")()
        self._gone.acquire()
        self._ended = False
        self.failure = ""
        self._segments: list[Segment] = []
        self._waits: deque[Wait] = deque(maxlen=256)
        self.baseline = Baseline(self._meter)
        self._has_met_holder = False
        """Whether another thread has kept the GIL for longer than the limit."""
        self._reading: Callable[[], _Reading] = partial(_Reading, 0, 0, 0)
        """What the kernel knows of the watchdog's own thread; nothing until it runs."""
        self._before = self._reading()
        """The reading from which on a wait counts."""
        self.is_awaited = False
        """Whether somebody waits for the late beats to be settled, so that it must be done whatever the loop does."""
        self._looked = (0, 0)
        """Time and the loop's CPU time at the last look."""
        self._looks_again = False
        """Whether this look follows at once on one in whose middle the loop ran."""

    def start(self) -> None:
        """Begin to watch; returns when the thread does, some 0.1 ms later."""
        self._alarm.set(self.patience_ns, time.perf_counter_ns())
        try:
            start_native_thread(self._run)
        except BaseException:
            self._close()
            raise
        self._awake.acquire(True, START_S)

    def beaten(self, now: int, look: bool) -> None:
        """Hear of a beat: put the alarm off, or ring it at once if there is something to `look` at."""
        if look or self._pulse.late:
            self._alarm.due_ns = min(self._alarm.due_ns, now)
            self._alarm.ring()
        elif now < self._alarm.due_ns:
            self._alarm.set(self.patience_ns, now)
        # Else it has rung, and the watchdog waits for the GIL: `due_ns` tells since when, and must not be overwritten.

    def stop(self) -> None:
        """Have the thread end at once; what it held is then in `Pulse.discard`, for the loop's thread to let go of."""
        self._ended = True
        self._alarm.ring()
        self._gone.acquire(True, STOP_S)

    def _run(self) -> None:
        me = ThreadMeter()
        self._sight.own_ident, self._reading = me.ident, partial(_read, me)
        try:
            self.baseline.begin(me)
            self._looked, self._before = (time.perf_counter_ns(), self._meter.cpu_ns()), self._reading()
            self._awake.release()
            while True:
                reading = self._reading()  # not at the end of the last wait: the look since then may have slept
                # The loop may have run amid that look. To wait would let the GIL go, and the call that has ended just
                # now be lost. This is asked last, for from here to the wait nothing is known of the loop.
                unseen_ns = self._unseen_ns()
                self._looks_again = unseen_ns >= UNSEEN_NS
                if not self._looks_again:
                    self._before = reading
                    self._alarm.wait()
                if self._ended or self._loop.is_closed():
                    break
                loop_ns, now = self._meter.cpu_ns(), time.perf_counter_ns()
                self._look(now, loop_ns, now - unseen_ns if self._looks_again else self._alarm.due_ns)
                if not self._ended:  # else it has rung for the last time
                    now = time.perf_counter_ns()  # to settle a stall beside a busy loop may have taken milliseconds
                    self._alarm.set(self._next_look_ns(now), now)
        except Exception as error:  # without the watchdog there is no proof: the report must say so
            self.failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            switch_interval.leave(self)
            me.close()
            self._close()
            self._let_go(self._segments)
            self._gone.release()

    def _close(self) -> None:
        self._alarm.close()
        self._meter.close()
        self.baseline.close()

    def _waited(self, due: int, wake: _Wake, after: _Reading) -> tuple[int, int]:
        """Keep a long wait; return for how much of it another thread may have had the GIL, and what `_proven_ns` says.

        `due`: since when the watchdog has been asking for the GIL. `after`: the reading behind the wait.
        """
        before, self._before = self._before, after
        waited_for_cpu, wakes = after.run_delay_ns - before.run_delay_ns, after.slices - before.slices
        gil_wait, suspended = max(0, wake.now_ns - due - waited_for_cpu), 0
        loop_ran = wake.cpu_ns - wake.beat[1] >= gil_wait // 2
        if not loop_ran and is_suspended(wakes, gil_wait, sys.getswitchinterval()):
            gil_wait, suspended = 0, gil_wait
        self._waits.append(Wait(due, wake.now_ns, gil_wait, waited_for_cpu, suspended, after.cpu_ns - before.cpu_ns))
        if not is_one_call(wakes, gil_wait, sys.getswitchinterval()):
            return gil_wait, 0
        # The first of its waits for a CPU came before it could ask for the GIL; its length is a guess.
        return gil_wait, self._proven_ns(due, wake, min(waited_for_cpu, 3 * waited_for_cpu // max(1, wakes)))

    def _proven_ns(self, due: int, wake: _Wake, started_late_ns: int) -> int:
        """How long the loop's thread has been inside one C call, at least.

        The watchdog asked for the GIL when its alarm rang; a switch interval later CPython made the holder give it up
        at its next bytecode boundary. CPU time that the loop's thread used after that, it used without reaching one.
        """
        due = max(due, wake.alive_ns + self.patience_ns)  # a sign of life while it waited was such a boundary
        interval_s = min(switch_interval.usual_s, self._limit_s * LONGEST_INTERVAL_SHARE)
        before_ns, cpu_before = max(self._looked, wake.beat)
        return max(0, wake.cpu_ns - cpu_before - max(0, due - before_ns) - started_late_ns - int(interval_s * NS))

    def _unseen_ns(self) -> int:
        """CPU time of the loop's thread since the last look began: it has run, and what was seen is out of date."""
        return max(0, self._meter.cpu_ns() - self._looked[1])

    def _next_look_ns(self, now: int) -> int:
        """Return the time until the next look: the longer the callback has been seen, the later.

        A callback that is not the first one of its stall is looked at twice within the limit.
        """
        wait = self._pulse.alive_ns + self.patience_ns - now
        if wait < 0 and not self._loop.is_running():
            wait = LONG_WATCH_NS
        elif wait < 0 and self._has_come_to_another():
            wait = self.patience_ns // 2
        elif wait < 0:
            # What was seen before the last beat was another callback, or another step of the same.
            known_ns = now - max(self._segments[-1].samples[0].at_ns, self._pulse.beat_ns) if self._segments else 0
            wait = min(known_ns // LENGTH_PARTS, LONG_WATCH_NS)
        return max(CLOSE_WATCH_NS, wait // STEP_NS * STEP_NS)

    def _has_come_to_another(self) -> bool:
        """Whether one callback was seen since the last beat, and at the last look, for the first time, another."""
        if len(self._segments) < 2 or len(self._segments[-1].samples) > 1:
            return False
        return self._segments[-2].samples[-1].at_ns >= self._pulse.beat_ns  # else it is only not yet let go of

    def _look(self, now: int, loop_ns: int, due: int) -> None:
        """Look at the loop if it is overdue, and judge what can be judged. All times as in `_saw_overdue`."""
        pulse = self._pulse
        overdue = self._saw_overdue(now, loop_ns, due)
        while pulse.late and (self.is_awaited or not self._may_block_again(overdue)):
            # Peek, settle, then pop: whoever waits for the deque to be empty must find the stall counted.
            self._on_stall(self._settled(pulse.late[0]))
            pulse.late.popleft()
            self._before, loop_ns, now = self._reading(), self._meter.cpu_ns(), time.perf_counter_ns()
            overdue = self._saw_overdue(now, loop_ns, now)
        if overdue or pulse.late:
            return
        if self._segments and self._segments[-1].samples[-1].at_ns < pulse.beat_ns:  # else the beat is yet to come
            self._let_go(self._segments)
            self._segments = []
        is_young = now - self.baseline.taken_ns < YOUNG_NS
        if not self._segments and not is_young and now - pulse.beat_ns < self.patience_ns:
            self.baseline.take(now)

    def _saw_overdue(self, now: int, loop_ns: int, due: int) -> bool:
        """Return whether a beat is overdue, and if so, keep what the loop's thread does.

        `loop_ns`: CPU time of the loop's thread, read before `now`: if the loop runs from then on, that shows. `due`:
        since when the watchdog has been asking for the GIL. The loop's thread waits for it in turn, and takes it back
        after a switch interval. So first of all everything is read that will be something else by then.
        """
        pulse = self._pulse
        after = self._reading() if now - due >= PROVING_NS else None
        beat = (pulse.beat_ns, pulse.cpu_ns)
        wake = _Wake(now, loop_ns, beat, pulse.alive_ns, max(pulse.begun_ns, pulse.beat_ns))
        overdue = now - wake.alive_ns >= self.patience_ns and self._loop.is_running()
        view = self._sight.view(loop_ns) if overdue else None
        gil_wait, proven = self._waited(due, wake, after) if after is not None else (0, 0)
        self._looked = (now, loop_ns)
        if view is not None:
            self._keep(view, wake, gil_wait, proven)
        self._ask(overdue or bool(pulse.late))
        return overdue

    def _may_block_again(self, overdue: bool) -> bool:
        """Whether settling had better wait: the loop is overdue, or has only just come out of a call that kept the CPU.

        A call that slept gave the GIL away, and so will the next one. There is no need to wait then, and who had the
        GIL meanwhile must be found out at once.
        """
        pulse, last = self._pulse, self._pulse.late[-1]
        has_just_come = pulse.beat_ns <= last.now_ns and last.off_cpu_ns < self._limit_s * NS
        return (overdue or has_just_come) and len(pulse.late) <= MOST_UNSETTLED

    def _ask(self, overdue: bool) -> None:
        """Choose the switch interval: the shortest while a beat is overdue, or while no other thread wants the GIL.

        In the second case nobody else is slowed down by it. The sooner the first look comes, the less of what ran
        before can be taken for the same callback.

        Once another thread has kept the GIL for longer than the limit, a healthy loop's interval is only so short that
        two looks fit into the limit. A thread that waits for the GIL goes to the end of the queue after each interval.
        At the end of a C call that kept the GIL the loop may be first in the queue, and let go after a tenth of a
        millisecond. If an interval of the watchdog's ended just then, the holder stands before it in the queue, goes
        on, and its line is lost. Of 490 holders that ended right after the call, 21 were lost with an interval of
        0.5 ms, 10 with 1 ms, 3 with 5 ms.
        """
        hurry_s = min(HURRY_S, self._limit_s * HURRY_SHARE)
        if overdue or not (self.baseline.has_rivals or self._has_met_holder):
            switch_interval.want(self, hurry_s)
        elif not self.baseline.has_rivals:
            two_looks_ns = self.patience_ns + CLOSE_WATCH_NS + hurry_s * NS
            switch_interval.want(self, max(hurry_s, self._limit_s - two_looks_ns / NS))
        else:
            switch_interval.want(self, self._limit_s * LONGEST_INTERVAL_SHARE)

    def _keep(self, view: View, wake: _Wake, gil_wait: int, proven: int) -> None:
        """Keep what was seen of an overdue loop."""
        now = wake.now_ns
        # The loop ran amid this look; or, in the second look, only its own frame around a callback that has ended is
        # left: what the callback left behind was freed meanwhile.
        is_void = bool(view.stack) and is_bare(view.stack) if self._looks_again else view.ran_ns >= UNSEEN_NS
        # A C call has run until now and this callback is only about to begin, so the time was not spent in it. If there
        # is no callback, the call must be proven to exceed the limit: uvloop's callbacks in C have no frame.
        is_between = proven > 0 and not has_run(view.stack) if view.stack else proven >= self._limit_s * NS
        if is_void or is_between:
            self._pulse.discard += [view.callback] if view.callback is not None else []  # the loop's thread lets it go
            view.stack, view.callback = (), None
        self._sight.hand_back(view.frames)
        if is_void:
            return
        # To ask all threads for their CPU time is expensive, and most beats that are a little late are no stall.
        is_suspect = view.state != ASLEEP and now - wake.alive_ns >= 2 * self.patience_ns
        holder = None
        if is_suspect and self.baseline.others_ran():
            holder = self._sight.holder(self.baseline, view.others)
        gil_wait = min(gil_wait, now - wake.beat[0])  # the watchdog may have waited since before that beat
        sample = Sample(
            now, now - proven, view.run_delay_ns, view.stack, wake.cpu_ns, view.state, gil_wait, holder, wake.begun_ns
        )
        last = self._segments[-1] if self._segments else None
        if last is not None and view.callback is not None and last.callback is view.callback:
            last.samples.append(sample)
        else:
            self._let_go(self._segments)  # a look compares with the last segment alone; settling needs no frames
            is_idle = not view.stack and not is_between
            self._segments.append(Segment(view.callback, view.task if view.stack else None, [sample], is_idle))

    def holder(self) -> Holder | None:
        """Return the thread that used most CPU time since the last baseline, apart from the loop's and this one.

        For any thread.
        """
        return self._sight.holder(self.baseline) if self.baseline.others_ran() else None

    def unended(self, late: Late) -> Stall:
        """Return a stall that goes on, as far as it was seen; for any thread."""
        # The frames stay the watchdog's: only the loop's thread may let go of one last.
        bare = [replace(segment, callback=None) for segment in list(self._segments)]
        inside, _ = _divided(bare, late)
        return self._stall(late, inside)

    def _settled(self, late: Late) -> Stall:
        segments = self._segments
        inside, self._segments = _divided(segments, late)
        stall = self._stall(late, inside, self.holder())
        while self._waits and self._waits[0].until_ns <= late.now_ns:
            self._waits.popleft()
        self.baseline.charge(stall.steal_ns)
        if stall.holder is not None and min(late.off_cpu_ns, stall.holder.cpu_ns) >= self._limit_s * NS:
            self._has_met_holder = True
        self._let_go([*segments[: len(segments) - len(self._segments)], *inside])
        return stall

    def _stall(self, late: Late, inside: list[Segment], last: Holder | None = None) -> Stall:
        samples = [sample for segment in inside for sample in segment.samples]
        known = [sample.state == ON_GIL for sample in samples if sample.state in (ON_GIL, ASLEEP)]
        # Somebody kept the GIL while the watchdog waited. A loop that slept on something else did not wait for it.
        refuted = sum(sample.gil_wait_ns for sample in samples if sample.state == ASLEEP)
        begun = takewhile(lambda wait: wait.since_ns < late.now_ns, list(self._waits))
        waits = [wait.within(late) for wait in begun if wait.reaches(late)]
        seen = [*(sample.holder for sample in samples), late.holder, last]
        holders = [holder for holder in seen if holder is not None]
        least_ns = HOLDER_SHARE * max((holder.cpu_ns for holder in holders), default=0)
        holders = [holder for holder in holders if holder.cpu_ns >= least_ns]
        return Stall(
            late=late,
            segments=inside,
            samples=len(samples),
            gil_share=sum(known) / len(known) if known else None,
            witness_ns=max(0, sum(wait.gil_ns for wait in waits) - refuted),
            refuted_ns=refuted,
            witness_delay_ns=sum(wait.cpu_ns for wait in waits),
            witness_spent_ns=sum(wait.spent_ns for wait in waits if wait.gil_ns),
            suspended_ns=sum(wait.suspended_ns for wait in waits),
            steal_ns=self.baseline.stolen_ns(late, [*self._pulse.late]),
            # The first of those that still saw its call: at the next look it may be a line further.
            holder=min(holders, key=lambda holder: holder.has_ended, default=None),
        )

    def _let_go(self, segments: list[Segment]) -> None:
        # CPython can give up the GIL only at the end of a call: the loop's thread cannot let go before this one has.
        for segment in segments:
            if segment.callback is not None:
                self._pulse.discard += [segment.callback]
                segment.callback = None


def _divided(segments: list[Segment], late: Late) -> tuple[list[Segment], list[Segment]]:
    """Return what was seen during a late beat, and after it; a coroutine's frame may be in both."""
    begun = bisect_right(segments, late.now_ns, key=lambda segment: segment.samples[0].at_ns)
    inside = [
        replace(segment, samples=samples)
        for segment in segments[:begun]
        if (samples := [sample for sample in segment.samples if late.before_ns <= sample.at_ns <= late.now_ns])
    ]
    goes_on = [
        replace(segment, samples=samples)
        for segment in segments[:begun][-1:]
        if (samples := [sample for sample in segment.samples if sample.at_ns > late.now_ns])
    ]
    return inside, [*goes_on, *segments[begun:]]


def _read(meter: ThreadMeter) -> _Reading:
    return _Reading(*meter.scheduling(), meter.cpu_ns())
