"""What all monitors have in common: the heartbeat's arithmetic, the watchdog beside it, and the findings of both."""

import copy
import math
import sys
from time import perf_counter_ns, thread_time_ns
from types import CodeType
from typing import Any

from .charge import charge
from .clocks import ThreadMeter
from .findings import Findings
from .frame_safety import Home
from .gcpause import GcPauses
from .native import native
from .stall import Late, Pulse, Stall
from .watchdog import Watchdog, Watched

__all__ = ["LIMIT_S", "NS", "PERIOD_S", "SHORTEST_LIMIT_S", "Monitor"]

NS = 1e9
LIMIT_S = 0.010
"""A stall of at least this length counts as "blocked", unless the caller sets another limit."""
SHORTEST_LIMIT_S = 0.005
"""No limit may be shorter. The watchdog needs two looks to prove that a single callback took the time, and below this
limit it would look once, or never, before the stall is over."""
PERIOD_S = 0.003
"""Time from one beat to the next. Half of it is the error of a stall's length; a beat among requests costs 20 to 35 us,
because the CPU's caches are cold by then."""
SHORTEST_PACE_NS = 1_000_000
"""uvloop's timers count whole milliseconds: a shorter delay would fire at once."""
PATIENCE_SHARE = 0.25
"""Share of the limit for which a beat may be missing before the watchdog looks. A C call that keeps the GIL is seen
only if the watchdog asks for the GIL 5 ms (CPython's switch interval) before the call ends."""
TIMER_SLACK_NS = 1_200_000
"""How late a beat may come on a healthy loop: up to a millisecond, for uvloop's timers count whole ones."""
TICK_NS = 4_200_000
"""A little more than the kernel's timer tick (4 ms at 250 Hz). An alarm that is always further away than the next tick
never has to be put into the hardware, which costs 20 us in a virtual machine."""
RELAXED_SHARE = 0.9
"""Share of the limit up to which the watchdog may put off its first look at a saturated loop, if no other thread wants
the GIL: it then gets the GIL quickly."""
SETTLE_S = 2.0
"""Longest time that a report or a reset waits for the watchdog to judge the late beats."""
NAP_S = 0.0005
"""Between two looks at whether it has."""
CHORES_NS = 250_000_000
"""How often the watchdog takes a baseline: the CPU time of all threads, and the time that the hypervisor stole. What
was stolen since the last baseline is held against a stall, so an old baseline would excuse too much."""
CALM_CHORES_NS = 1_000_000_000
"""The same while nothing is stolen and no other thread is busy. It is longer because a baseline costs a saturated loop
0.4 ms, most of it for handing the GIL to the watchdog and back."""
SATURATED = 0.95
"""Share of a CPU from which on a loop has no CPU time to spare."""
PACES = ((0.0, 0.25, 1 / 3), (0.25, 0.5, 2 / 3), (0.5, SATURATED, 1.0), (SATURATED, math.inf, 5 / 3))
"""Rows of (load from, load to, pace): a loop with such a load, a share of a CPU, beats once in that part of the period.
Where there is CPU to spare, faster beats cost no throughput and show more exactly when a stall began. In a saturated
loop every beat costs throughput."""
LONGEST_PACE_SHARE = 0.5
"""Share of the limit that a pace slower than the period may reach."""
WINDOW_NS = 50_000_000
"""How often the load and the usual gap between two beats are worked out again."""
SIGNS_NS = 1_000_000_000
"""For how long after a long turn of the loop signs of life are wanted."""
OFF_CPU_NS = 1_000_000
"""A saturated loop reads its run delay again only after so much time off the CPU, for among requests the reading costs
as much as the rest of a beat. So up to this much of what is charged to the machine may lie before the stall. A loop
with CPU to spare reads it at each beat: it is woken for each, and its waits for a CPU add up to half a millisecond."""


class Monitor:
    """The heartbeat's arithmetic, its watchdog and its findings; a subclass brings the timer. Not for use by itself."""

    _paces: tuple[tuple[float, float, float], ...] = PACES

    def __init__(self, name: str, limit_s: float = LIMIT_S, period_s: float = PERIOD_S) -> None:
        for key, value in (("limit_s", limit_s), ("period_s", period_s)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{key} is {value!r}: it must be a number of seconds, such as 0.01")
        if not SHORTEST_LIMIT_S <= limit_s < math.inf:
            raise ValueError(f"limit_s is {limit_s}: it must be at least {SHORTEST_LIMIT_S}, and finite")
        if not 0 < period_s <= limit_s:
            raise ValueError(f"period_s is {period_s}: it must be over 0 and at most limit_s ({limit_s})")
        self.name = name
        self._limit_s = limit_s
        self._period_s = period_s
        self._period_ns = int(period_s * NS)
        self._gc = GcPauses()
        self._running = False
        self._ended_ns: int | None = None
        now = perf_counter_ns()
        self._pulse = Pulse(now, 0)
        self._findings = Findings(now, limit_s, period_s)
        self._pace_ns = self._usual_gap_ns = self._period_ns
        self._late_ns = self._late_at(self._pace_ns)
        self._quiet_for_ns = self._pace_ns
        self._load = 0.5
        """Share of a CPU that the loop used lately; from `_load_from` to `_load_to` the pace stays as it is."""
        self._load_from, self._load_to, _ = next(row for row in self._paces if row[2] == 1.0)
        self._window = (now, 0, 0, self._findings)
        """When the load was last worked out; the thread's CPU time, number of beats and findings at that time."""
        self._window_ns = now
        self._late_gaps = [0, 0]
        """Number of late beats since then, and the sum of their gaps; the usual gap is that of all other beats."""
        self._watchdog: Watchdog | None = None
        self._failure = ""

    @property
    def running(self) -> bool:
        """Whether the heartbeat runs."""
        return self._running

    def reset(self) -> None:
        """Begin anew, as if just started; from any thread. A stall that has not ended yet counts from now on."""
        if self._running:
            self._measure_last()
        self._settle()
        self._findings = self._findings.anew(perf_counter_ns())

    def report(self) -> dict[str, Any]:
        """What was found since the start or the last reset: one element of `event_loops` in the results file.

        Keys: blocked (bool; None: cannot tell), max_stall, blocked_s, watched_s, limit_s, period_s (seconds), stalls
        (count), lag ({p50, p99, max}, seconds), by_cause ({loop, gil, gc, machine}), culprits ([{file, line, function,
        call, task, cause, count, total_s, longest_s, excerpt}]), series, stall_times, note (text).

        May be called from any thread, during the run or after `stop()`. Waits some milliseconds at most for a stall
        that has just ended to be settled; one that goes on counts as far as it has come.
        """
        if self._running:
            self._measure_last()
        problem = self._problem(is_settled=self._settle())
        now = self._ended_ns or perf_counter_ns()
        report = self._with_unended(now).report(self.name, now)
        return {**report, "blocked": None, "note": f"{problem} {report['note']}".strip()} if problem else report

    def alive(self) -> bool:
        """Give a sign of life: the loop has begun another callback. Call it first thing in one, on the loop's thread.

        A loop with a long queue beats late without being blocked. Signs of life spare the watchdog a search for a stall
        that is not there, which costs throughput; and they prove that what blocks later in the queue began after them.
        Returns False if nothing is watched: the monitor does not run, or its loop is closed.
        """
        now, pulse = perf_counter_ns(), self._pulse
        before_ns, pulse.begun_ns = pulse.begun_ns, now
        return now <= pulse.quiet_ns or self.came_alive(now, before_ns)

    def came_alive(self, now: int, before_ns: int) -> bool:
        """Do what `alive()` has to do once `quiet_ns` has passed; `before_ns` is the `begun_ns` before this one."""
        pulse = self._pulse
        pulse.begun_ns = now  # a caller may have written it into the pulse of a run that has ended
        if not self._running or self._watchdog is None or self._is_closed():
            return False
        pulse.silent_ns = max(pulse.silent_ns, now - max(before_ns, pulse.beat_ns))
        if now - pulse.alive_ns >= self._watchdog.patience_ns:
            pulse.signs_ns.append(now)
        pulse.alive_ns = now
        pulse.quiet_ns = now + self._quiet_for_ns
        self._watchdog.beaten(now, False)
        return True

    def hear_no_signs(self) -> None:
        """Take no signs of life, in this run or a later one: those who give them cannot tell when a callback begins."""
        self._pulse.hears_signs = self._pulse.wants_signs = False

    @property
    def pulse(self) -> Pulse:
        """The pulse of the present run, or an idle one: for a caller that cannot afford `alive()` in each callback.

        While `wants_signs` is true, such a caller writes `begun_ns` itself, and calls `came_alive` once `quiet_ns` has
        passed; else there is nothing to do.
        """
        return self._pulse

    def own_share(self, start_ns: int, end_ns: int) -> int:
        """How much of an operation's time (ns) is this loop's own: it was late at the operation's start or its end.

        `start_ns` and `end_ns` are the operation's, by `perf_counter_ns`.
        """
        overdue = self._pulse.beat_ns + 2 * self._period_ns
        going_on = max(0, end_ns - max(start_ns, overdue)) if self._running else 0
        return min(end_ns - start_ns, self._findings.own_share(start_ns, end_ns) + going_on)

    def _problem(self, *, is_settled: bool) -> str:
        """Return why the findings prove nothing; "" if they do."""
        if self._watchdog is None:
            return "The monitor was never started."
        if self._watchdog.failure:
            return f"The watchdog ended early, later stalls are missing: {self._watchdog.failure}."
        if self._failure:
            return f"{self._failure}."
        if self._running and (failure := self._watchdog.stopwatch.failure()):
            return f"{failure}."
        return "" if is_settled else "A stall was still being examined when this was written."

    def _begin(self, base: CodeType | None = None, home: Home | None = None) -> None:
        if self._running:
            raise RuntimeError(f"the monitor {self.name!r} is running already")
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            raise RuntimeError("a loop cannot be watched without the GIL: its thread's frames would change while read")
        self._meter = ThreadMeter()
        now = perf_counter_ns()
        hears = self._pulse.hears_signs
        self._pulse = Pulse(now, thread_time_ns(), wants_signs=hears, hears_signs=hears, alive_ns=now, base=base)
        self._findings = Findings(now, self._limit_s, self._period_s)
        self._ended_ns, self._failure = None, ""
        self._read_delay(now - self._pulse.cpu_ns)
        self._open_window(now, self._pulse.cpu_ns)
        self._signs_until_ns = now
        self._chores_ns = now + WINDOW_NS
        patience_ns = self._patience_at(self._pace_ns)
        self._watchdog = None  # without one that runs there is no proof
        loop = Watched(self._task_name, self._is_running, self._is_closed)
        watchdog = Watchdog(self._meter, self._pulse, patience_ns, self._limit_s, loop, self._on_stall, home)
        try:
            watchdog.start()
        except BaseException:
            self._meter.close()
            raise
        self._watchdog = watchdog
        self._gc.start()
        self._running = True

    def _end(self) -> None:
        if not self._running:
            return
        self._measure_last()
        self._settle()
        self._running = False
        self._ended_ns = perf_counter_ns()
        self._gc.stop()
        self._meter.close()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._failure = self._failure or self._watchdog.stopwatch.failure()
        self._pulse.discard.clear()
        self._pulse.quiet_ns, self._pulse.wants_signs = 0, True
        self._pulse = Pulse(self._ended_ns, 0, hears_signs=self._pulse.hears_signs)

    def _measure(self) -> None:
        """Take one beat, on the loop's own thread.

        A beat in time must touch little memory: after the requests in between none of it is in the CPU's caches.
        """
        pulse, findings, look = self._pulse, self._findings, False  # a reset amid the beat brings other findings
        if pulse.discard:
            pulse.discard.clear()  # before the clock is read: what is freed here belongs to the callback that made it
        now, cpu = perf_counter_ns(), thread_time_ns()
        gap = now - pulse.beat_ns
        if gap >= self._late_ns:
            look = self._came_late(now, cpu, gap)
            gap = min(gap, now - findings.started_ns)
        if now - cpu > self._delay_due_ns:
            self._read_delay(now - cpu)
        if now >= self._window_ns:
            self._reckon(now, cpu)
            look = look or now >= self._chores_ns
        pulse.beat_ns = pulse.alive_ns = now
        pulse.quiet_ns = now + self._quiet_for_ns
        pulse.cpu_ns = cpu
        pulse.silent_ns = 0
        if pulse.signs_ns:
            pulse.signs_ns.clear()
        if self._watchdog is not None:
            if look:
                self._chores_ns = now + (CALM_CHORES_NS if self._watchdog.baseline.is_calm else CHORES_NS)
            self._watchdog.beaten(now, look)
        findings.lag(gap - self._pace_ns, now)

    def _measure_last(self) -> None:
        """Count what goes on up to this moment; on the loop's own thread alone, for no other can tell."""
        if native("_thread", "get_ident")() == self._meter.ident and not self._is_closed():
            self._measure()

    def _came_late(self, now: int, cpu: int, gap: int) -> bool:
        """Keep what a late beat measured; return whether the watchdog has to judge it."""
        pulse, before_ns = self._pulse, self._delay_ns
        self._late_gaps[0] += 1
        self._late_gaps[1] += gap
        late = Late(pulse.beat_ns, now, self._usual_gap_ns, cpu - pulse.cpu_ns, 0, tuple(pulse.signs_ns))
        late.has_long_turns = self._has_long_turns()
        if late.length_ns < self._limit_s * NS:
            return False
        begun_ns = max(pulse.begun_ns, pulse.beat_ns) if pulse.hears_signs else pulse.beat_ns
        if max(pulse.silent_ns, now - begun_ns) < self._limit_s * NS:
            self._findings.queue(now, late.length_ns / NS)  # no single thing took so long between two signs of life
            return False
        self._read_delay(now - cpu)
        late.run_delay_ns = self._delay_ns - before_ns
        if late.off_cpu_ns >= self._limit_s * NS and self._watchdog is not None:
            late.holder = self._watchdog.holder()  # a moment later it may have gone on, or ended
        pulse.late.append(late)
        return True

    def _read_delay(self, off_cpu_ns: int) -> None:
        self._delay_ns = self._meter.run_delay_ns()
        self._delay_due_ns = off_cpu_ns + (OFF_CPU_NS if self._load >= SATURATED else 0)

    def _reckon(self, now: int, cpu: int) -> None:
        """Work out the load and the usual gap from the beats since the last time, and take the pace that suits them."""
        begun_ns, cpu_before_ns, beats_before, findings = self._window
        late, late_ns = self._late_gaps
        in_time = self._findings.beats - beats_before - late
        if findings is self._findings:
            self._load += ((cpu - cpu_before_ns) / max(now - begun_ns, 1) - self._load) / 2
            if in_time > 0:
                self._usual_gap_ns += ((now - begun_ns - late_ns) // in_time - self._usual_gap_ns) // 4
            if not self._load_from <= self._load < self._load_to:
                self._change_pace()
            if self._watchdog is not None:
                patience_ns = self._patience_at(self._pace_ns, self._watchdog.baseline.has_rivals)
                self._watchdog.patience_ns = patience_ns
                self._quiet_for_ns = max(self._pace_ns, patience_ns - TIMER_SLACK_NS)
        if late or self._has_long_turns():
            self._signs_until_ns = now + SIGNS_NS
        self._pulse.wants_signs = self._pulse.hears_signs and now < self._signs_until_ns
        self._open_window(now, cpu)

    def _has_long_turns(self) -> bool:
        """Whether even beats in time are late by more than a timer's slack: callbacks queue before each."""
        return self._usual_gap_ns > self._pace_ns + TIMER_SLACK_NS

    def _open_window(self, now: int, cpu: int) -> None:
        self._window, self._late_gaps = (now, cpu, self._findings.beats, self._findings), [0, 0]
        self._window_ns = now + WINDOW_NS

    def _change_pace(self) -> None:
        self._load_from, self._load_to, share = next(row for row in self._paces if row[0] <= self._load < row[1])
        pace_ns = max(int(share * self._period_ns), min(self._period_ns, SHORTEST_PACE_NS))
        pace_ns = min(pace_ns, max(self._period_ns, int(self._limit_s * LONGEST_PACE_SHARE * NS)))
        self._usual_gap_ns += pace_ns - self._pace_ns
        self._pace_ns, self._late_ns = pace_ns, self._late_at(pace_ns)

    def _patience_at(self, pace_ns: int, has_rivals: bool = True) -> int:
        """Return for how long a beat may be missing before the watchdog looks at the loop."""
        least = max(int(self._limit_s * PATIENCE_SHARE * NS), pace_ns + TIMER_SLACK_NS)
        if has_rivals or pace_ns <= self._period_ns:
            return least
        return max(least, min(pace_ns + TICK_NS, int(self._limit_s * RELAXED_SHARE * NS)))

    def _late_at(self, pace_ns: int) -> int:
        """Return the gap between two beats from which on the later one is examined for a stall."""
        return min(pace_ns + self._patience_at(pace_ns), int(self._limit_s * NS) + pace_ns // 2)

    def _settle(self) -> bool:
        """Wait until the watchdog has judged the late beats, and return whether it has.

        The sleep is native, for this may be any thread.
        """
        naps, watchdog = int(SETTLE_S / NAP_S), self._watchdog  # counted: the clock may be one that stands still
        while watchdog is not None and self._running and self._pulse.late and not watchdog.failure and naps:
            watchdog.is_awaited = True
            native("time", "sleep")(NAP_S)
            naps -= 1
        if watchdog is not None:
            watchdog.is_awaited = False
        return naps > 0

    def _with_unended(self, now_ns: int) -> Findings:
        """Return the findings with the stall that goes on at this moment, if there is one."""
        findings, beat_ns = self._findings, self._pulse.beat_ns
        begun_ns = max(beat_ns, findings.started_ns)
        if now_ns - begun_ns < self._limit_s * NS + self._period_ns:
            return findings
        if not self._running or self._watchdog is None or not self._is_running():
            return findings
        meter = ThreadMeter(self._meter)
        # 0 where another thread's clock cannot be read (macOS): its own could, at the last beat.
        cpu_ns, delay_ns = max(0, meter.cpu_ns() - self._pulse.cpu_ns), meter.run_delay_ns() - self._delay_ns
        meter.close()
        try:
            extended = copy.deepcopy(findings)
            # Not tuple(): CPython 3.11 may collect for it, having read where the list lies, and the loop may go on.
            signs_ns = (*self._pulse.signs_ns,)
            stall = self._watchdog.unended(Late(beat_ns, now_ns, self._usual_gap_ns, cpu_ns, delay_ns, signs_ns))
            charge(stall, self._gc.within(beat_ns, now_ns), self._meter.ident, extended)
        except RuntimeError:  # something changed size while it was copied: the loop goes on again
            return findings
        extended.lag(now_ns - begun_ns - self._period_ns, now_ns)
        return extended if self._pulse.beat_ns == beat_ns else findings

    def _on_stall(self, stall: Stall) -> None:
        pauses = self._gc.within(stall.late.before_ns, stall.late.now_ns)
        charge(stall, pauses, self._meter.ident, self._findings)

    def _task_name(self) -> str | None:
        return None

    def _is_running(self) -> bool:
        return True

    def _is_closed(self) -> bool:
        return False
