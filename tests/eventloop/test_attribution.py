from dataclasses import replace

import pytest

from asyncload_lib.eventloop import charge
from asyncload_lib.eventloop.attribution import CAUSES, QUEUE, Evidence, cause_of, shares
from asyncload_lib.eventloop.clocks import ASLEEP, ON_GIL, RUNNING
from asyncload_lib.eventloop.findings import Findings
from asyncload_lib.eventloop.gcpause import GcPause
from asyncload_lib.eventloop.stall import Holder, Late, Sample, Segment, Stall

LIMIT_S = 0.010


def evidence(length_s: float, **seen: object) -> Evidence:
    return Evidence(length_s=length_s, limit_s=LIMIT_S, **seen)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cause", "seen"),
    [
        ("loop", evidence(0.050, callback_s=0.050, samples=9, gil_share=0.0)),
        ("loop", evidence(0.050, cpu_s=0.050, callback_s=0.050, samples=9)),
        # half of the time it had no CPU, but what is left is over the limit
        ("loop", evidence(0.050, cpu_s=0.025, run_delay_s=0.025, callback_s=0.050, samples=9)),
        # without the machine it would have been a callback of 6 ms
        ("machine", evidence(0.050, cpu_s=0.006, run_delay_s=0.044, callback_s=0.050, samples=9)),
        ("machine", evidence(0.050, steal_s=0.045, callback_s=0.050, samples=9)),
        # the hypervisor took the CPU from a thread that had the GIL: the watchdog's wait for it is the same time again
        ("loop", evidence(0.034, cpu_s=0.022, steal_s=0.020, witness_s=0.012, callback_s=0.022, samples=1)),
        ("machine", evidence(0.024, cpu_s=0.006, steal_s=0.020, witness_s=0.018, callback_s=0.006, samples=1)),
        # of a machine with many CPUs there is always some: not from a thread that slept
        ("loop", evidence(0.050, asleep_s=0.047, steal_s=0.300, callback_s=0.050, samples=9)),
        ("gc", evidence(0.050, cpu_s=0.050, gc_s=0.045, callback_s=0.050, samples=1)),
        # a collection of its own 30 ms is a collection, however long the machine stretched it
        ("gc", evidence(0.100, cpu_s=0.035, run_delay_s=0.065, gc_s=0.030, callback_s=0.1, samples=1)),
        ("gc", evidence(0.050, gc_elsewhere_s=0.048, gil_share=1.0, callback_s=0.050, samples=1)),
        ("gil", evidence(0.050, gil_share=1.0, callback_s=0.050, samples=9)),
        # the kernel does not tell what the thread waits for: the watchdog waited for the GIL just as long
        ("gil", evidence(0.050, gil_share=None, witness_s=0.048, callback_s=0.050, samples=1)),
        # who waits for the GIL for seconds wakes thousands of times: that CPU time is no work of a callback's
        ("gil", evidence(1.8, cpu_s=0.046, gil_share=1.0, witness_s=1.78, witness_spent_s=0.043, callback_s=0.046)),
        ("gil", evidence(2.3, cpu_s=0.012, witness_s=2.28, witness_spent_s=0.012, samples=1, idle=True)),
        ("loop", evidence(0.1, cpu_s=0.030, gil_share=1.0, witness_s=0.07, witness_spent_s=0.01, callback_s=0.030)),
        # the watchdog waits just as long for a C call of the loop's own
        ("loop", evidence(2.0, cpu_s=2.0, witness_s=2.0, witness_spent_s=0.040, callback_s=2.0, samples=1)),
        # asleep on the GIL, because the machine did not let the watchdog run that it was handed to
        ("machine", evidence(0.050, gil_share=1.0, witness_delay_s=0.050, callback_s=0.050, samples=1)),
        ("machine", evidence(0.050, samples=5, idle=True, gil_share=0.0)),
        # the whole process stood still; the loop, which gave the GIL to the watchdog, is seen to wait for it
        ("machine", evidence(0.150, cpu_s=0.002, suspended_s=0.145, gil_share=1.0, samples=1)),
        ("loop", evidence(0.150, cpu_s=0.100, suspended_s=0.050, callback_s=0.150, samples=9)),
        (QUEUE, evidence(0.050, cpu_s=0.050, callback_s=0.004, samples=20)),
        (QUEUE, evidence(0.050, cpu_s=0.050, samples=5, idle=True)),
    ],
)
def test_each_stall_has_one_cause(cause: str, seen: Evidence) -> None:
    assert cause_of(seen) == cause


def test_the_shares_are_the_whole_stall_even_when_the_others_overlap() -> None:
    seen = evidence(0.050, cpu_s=0.020, run_delay_s=0.040, gc_s=0.020, gil_share=1.0, steal_s=0.040)

    parts = shares(seen)

    assert set(parts) == set(CAUSES)
    assert sum(parts.values()) == pytest.approx(0.050)
    assert all(seconds >= 0 for seconds in parts.values())


def looks(*rows: tuple[int, int, str | None]) -> Segment:
    """A callback seen at these moments: (ms, its thread's CPU time in ms, state)."""
    samples = [Sample(at * 10**6, at * 10**6, 0, (), cpu * 10**6, state, 0, None) for at, cpu, state in rows]
    return Segment(None, None, samples, idle=False)


@pytest.mark.parametrize(
    ("seen_ms", "segment"),
    [
        (10, looks((0, 0, ASLEEP), (4, 0, ASLEEP), (10, 0, ASLEEP))),
        (10, looks((0, 0, RUNNING), (4, 4, RUNNING), (10, 10, RUNNING))),
        # a callback of 1 ms that another thread keeps from going on is no blocking call
        (1, looks((0, 0, ON_GIL), (4, 1, ON_GIL), (10, 1, ON_GIL))),
        # the watchdog itself made it wait for a moment; all else it used a CPU
        (10, looks((0, 0, ON_GIL), (4, 4, ON_GIL), (10, 10, ON_GIL))),
        (6, looks((0, 0, ON_GIL), (4, 0, ON_GIL), (10, 0, ASLEEP))),
        # a hypervisor took its CPU for a while: the kernel still calls that running
        (2, looks((0, 0, RUNNING), (4, 1, ON_GIL), (10, 2, RUNNING))),
        (10, looks((0, 0, None), (4, 1, None), (10, 2, None))),  # the kernel does not tell: it may have slept
    ],
)
def test_a_callback_is_seen_without_its_waits(seen_ms: int, segment: Segment) -> None:
    assert segment.seen_ns == seen_ms * 10**6


@pytest.mark.parametrize(
    ("run_delay_ms", "signs_ms", "callback_ms"),
    [
        (0, (), 59),  # alone: to the stall's edges, the first of which lies half a gap after the beat
        (0, (22,), 15),  # from the sign of life before it to the one behind it
        (9, (22,), 6),  # the machine's delay may all have been in it
        (30, (22,), 4),  # but what was seen was seen
    ],
)
def test_a_callback_reaches_no_further_than_the_signs_of_life_around_it(
    run_delay_ms: int, signs_ms: tuple[int, ...], callback_ms: int
) -> None:
    ms = 10**6
    samples = [
        Sample(at * ms, at * ms, 0, (), at * ms, ON_GIL, 0, None, alive_ns=7 * ms if signs_ms else 0) for at in (14, 18)
    ]
    late = Late(0, 60 * ms, 2 * ms, (59 - run_delay_ms) * ms, run_delay_ms * ms, tuple(at * ms for at in signs_ms))
    stall = Stall(late, [Segment(None, None, samples, idle=False)], 2, 1.0, 0, 0, 0, 0, None)

    [callback] = charge._callbacks(stall, [], LIMIT_S)

    assert callback.own_ns == callback_ms * ms


@pytest.mark.parametrize(("has_long_turns", "cause"), [(False, "loop"), (True, QUEUE)])
def test_where_turns_are_long_a_callback_must_be_seen_for_longer(has_long_turns: bool, cause: str) -> None:
    """Two looks close together behind 9 ms that nobody saw: there, it may have been a queue of other callbacks."""
    ms = 10**6
    late = Late(0, 14 * ms, 5 * ms, 14 * ms, 0, has_long_turns=has_long_turns)
    stall = Stall(late, [looks((10, 10, ON_GIL), (12, 12, ON_GIL))], 2, 1.0, 0, 0, 0, 0, None)

    [callback] = charge._callbacks(stall, [], LIMIT_S)

    assert cause_of(charge._evidence(stall, [], 1, LIMIT_S, callback)) == cause


@pytest.mark.parametrize(("state", "callback_ms"), [(RUNNING, 9), (ASLEEP, 59)])
def test_a_callback_never_seen_to_sleep_has_no_more_than_the_cpu_time(state: str, callback_ms: int) -> None:
    """Robbed of its CPU for 50 ms by a hypervisor, or asleep as long."""
    ms = 10**6
    segment = looks((14, 2, state), (30, 6, state))
    stall = Stall(Late(0, 60 * ms, 2 * ms, 9 * ms, 0), [segment], 2, 1.0, 0, 0, 0, 0, None)

    [callback] = charge._callbacks(stall, [], LIMIT_S)

    assert callback.own_ns == callback_ms * ms


def test_a_collection_in_a_short_callback_is_not_its_own_time() -> None:
    ms = 10**6
    samples = [Sample(at * ms, at * ms, 0, (), at * ms, ON_GIL, 0, None, alive_ns=7 * ms) for at in (14, 18)]
    late = Late(0, 60 * ms, 2 * ms, 59 * ms, 0, (22 * ms,))
    stall = Stall(late, [Segment(None, None, samples, idle=False)], 2, 1.0, 0, 0, 0, 0, None)
    pause = GcPause(8 * ms, 21 * ms, 13 * ms, ident=1, generation=2, stack=())
    [alone] = charge._callbacks(stall, [], LIMIT_S)
    [collecting] = charge._callbacks(stall, [pause], LIMIT_S)

    without = charge._evidence(stall, [], 1, LIMIT_S, alone)
    with_one = charge._evidence(stall, [pause], 1, LIMIT_S, collecting)

    assert (cause_of(without), cause_of(with_one)) == ("loop", QUEUE)


@pytest.mark.parametrize(
    ("signs_ms", "alive_ms", "lengths_ms"),
    [
        # half way to the neighbours and to the edges
        ((), (0, 0, 0), (30, 9, 28)),
        # from one sign of life to the next, and to the edge behind which nobody gave one
        ((32, 40), (2, 32, 40), (30, 8, 35)),
    ],
)
def test_each_callback_over_the_limit_is_a_stall_of_its_own(
    signs_ms: tuple[int, ...], alive_ms: tuple[int, ...], lengths_ms: tuple[int, ...]
) -> None:
    """Seen from 5 to 30 ms, from 36 to 38, and from 46 to 65; in a beat that began at 1 ms and came at 75."""
    ms = 10**6
    callbacks = [looks((a, 0, ASLEEP), (b, 0, ASLEEP)) for a, b in ((5, 30), (36, 38), (46, 65))]
    for segment, alive in zip(callbacks, alive_ms, strict=True):
        code = (lambda: None).__code__
        segment.samples = [replace(sample, alive_ns=alive * ms, stack=((code, 0),)) for sample in segment.samples]
    stall = Stall(
        Late(0, 75 * ms, 2 * ms, 0, 0, tuple(at * ms for at in signs_ms)), callbacks, 6, 0.0, 0, 0, 0, 0, None
    )
    findings = Findings(0, LIMIT_S, 0.003)

    charge.charge(stall, [], 1, findings)

    assert [callback.length_ns // ms for callback in charge._callbacks(stall, [], LIMIT_S)] == list(lengths_ms)
    blocked_ms = [length for length in lengths_ms if length > 10]
    report = findings.report("loop", 75 * ms)
    assert [round(stall["length"] * 1e3) for stall in report["stall_times"]] == blocked_ms
    assert (report["stalls"], round(report["blocked_s"] * 1e3)) == (2, sum(blocked_ms))


def test_what_lay_between_two_callbacks_is_as_long_as_its_cpu_time_and_has_no_line() -> None:
    """Of a beat 120 ms late the loop used a CPU for 20, and waited for the GIL before; then it freed something."""
    ms = 10**6
    samples = [Sample(119 * ms, 107 * ms, 0, (), 20 * ms, RUNNING, 0, None)]
    stall = Stall(
        Late(0, 120 * ms, 2 * ms, 20 * ms, 0),
        [Segment(None, None, samples, idle=False)],
        1,
        None,
        98 * ms,
        0,
        0,
        0,
        None,
    )
    findings = Findings(0, LIMIT_S, 0.003)

    charge.charge(stall, [], 1, findings)

    report = findings.report("loop", 120 * ms)
    assert (report["stalls"], report["max_stall"], report["culprits"]) == (1, pytest.approx(0.020), [])
    assert "The loop was blocked between two callbacks 1 time (" in report["note"]


@pytest.mark.parametrize(("holder_cpu_ms", "cause"), [(95, "gil"), (40, QUEUE)])
def test_a_loop_asleep_that_nobody_could_look_at_waited_for_a_thread_that_worked_as_long(
    holder_cpu_ms: int, cause: str
) -> None:
    """The watchdog lost the GIL amid its settling of the stall before: of this one it knows nothing."""
    ms = 10**6
    holder = Holder("worker", (), holder_cpu_ms * ms)
    stall = Stall(Late(0, 100 * ms, 2 * ms, 2 * ms, 7 * ms), [], 0, None, 0, 0, 0, 0, holder)

    assert cause_of(charge._evidence(stall, [], 1, LIMIT_S, None)) == cause


@pytest.mark.parametrize(
    ("collected_ms", "lengths_ms"),
    [
        ((), [30, 28]),
        # each beginning and end is known to half the time to the neighbour: a collection there is nobody's work
        ((31, 35), [30, 28]),
        # 25 of the 30 ms of the first were a collection, and none of the second's
        ((4, 29), [28]),
        ((45, 68), [30]),
    ],
)
def test_a_collection_is_taken_from_the_callback_that_it_fell_into(
    collected_ms: tuple[int, ...], lengths_ms: list[int]
) -> None:
    """Two callbacks, seen from 5 to 30 ms and from 46 to 65, and a short one; each kept the interpreter lock."""
    ms = 10**6
    callbacks = [looks((a, a, RUNNING), (b, b, RUNNING)) for a, b in ((5, 30), (36, 38), (46, 65))]
    for segment in callbacks:
        code = (lambda: None).__code__
        segment.samples = [replace(sample, stack=((code, 0),)) for sample in segment.samples]
    stall = Stall(Late(0, 75 * ms, 2 * ms, 74 * ms, 0), callbacks, 6, 0.0, 0, 0, 0, 0, None)
    pauses = []
    if collected_ms:
        start_ns, end_ns = (at * ms for at in collected_ms)
        pauses = [GcPause(start_ns, end_ns, end_ns - start_ns, 1, 2, ())]
    findings = Findings(0, LIMIT_S, 0.003)

    charge.charge(stall, pauses, 1, findings)

    report = findings.report("loop", 75 * ms)
    assert [round(stall["length"] * 1e3) for stall in report["stall_times"]] == lengths_ms


@pytest.mark.parametrize("alive_ms", [0, 1])
def test_what_came_before_the_first_look_is_not_laid_to_the_callback_seen_there(alive_ms: int) -> None:
    """A queue of callbacks of some milliseconds, looked at from 10 ms on: the second of them was running."""
    ms = 10**6
    callbacks = [looks(*((at, at, RUNNING) for at in (a, b))) for a, b in ((10, 14), (18, 20), (24, 27))]
    for segment in callbacks:
        segment.samples = [replace(sample, alive_ns=alive_ms * ms) for sample in segment.samples]
    stall = Stall(Late(0, 29 * ms, 2 * ms, 28 * ms, 0), callbacks, 6, 0.0, 0, 0, 0, 0, None)
    findings = Findings(0, LIMIT_S, 0.003)

    charge.charge(stall, [], 1, findings)

    report = findings.report("loop", 29 * ms)
    assert report["stalls"] == 0
    assert "Many short callbacks in a row kept the loop busy beyond the limit, 1 time (" in report["note"]
