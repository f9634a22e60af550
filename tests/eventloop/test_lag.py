import asyncio
import gc
import itertools
import json
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from asyncload_lib.eventloop import heartbeat, places
from asyncload_lib.eventloop.charge import charge
from asyncload_lib.eventloop.clocks import RUNNING, ThreadMeter, threads_cpu_ns
from asyncload_lib.eventloop.findings import Findings
from asyncload_lib.eventloop.frame_safety import uncollected
from asyncload_lib.eventloop.gcpause import GcPauses
from asyncload_lib.eventloop.heartbeat import CALM_CHORES_NS, CHORES_NS, Monitor
from asyncload_lib.eventloop.lag import HubMonitor, LoopMonitor
from asyncload_lib.eventloop.places import AFTERWARDS, Position, culprit_spot
from asyncload_lib.eventloop.stacks import positions
from asyncload_lib.eventloop.stall import Holder, Late, Pulse, Sample, Segment, Stall
from asyncload_lib.eventloop.switching import switch_interval
from asyncload_lib.eventloop.waits import Wait, is_one_call, is_suspended
from asyncload_lib.eventloop.watchdog import HURRY_S, MOST_UNSETTLED, PROVING_NS, UNSEEN_NS, Watchdog, Watched, _Reading
from tests.eventloop.loops import Run, both_loops, cpu, line_of

pytestmark = pytest.mark.chance

LONG_JSON = "[" + ",".join(["[1, 2.5]"] * 400_000) + "]"


async def calm() -> None:
    await asyncio.sleep(0.03)


def stalls(report: dict[str, Any]) -> dict[str, int]:
    return {cause: value["stalls"] for cause, value in report["by_cause"].items() if value["stalls"]}


async def handler() -> None:
    time.sleep(0.06)  # asleep


def helper() -> None:
    cpu(0.1)  # busy


def parse() -> None:
    json.loads(LONG_JSON)  # parsing


async def in_a_task() -> None:
    await asyncio.create_task(handler())


@both_loops
@pytest.mark.parametrize("where", ["asleep", "busy", "parsing"])
def test_a_blocking_call_is_found_with_its_line(run: Run, where: str) -> None:
    function = {"asleep": handler, "busy": helper, "parsing": parse}[where]

    async def main() -> dict[str, Any]:
        async with LoopMonitor("mine") as monitor:
            await calm()
            if where == "asleep":
                await in_a_task()
            else:
                function()
            await calm()
        return monitor.report()

    report = run(main())

    assert report["name"] == "mine"
    assert report["blocked"] is True
    culprit = next(culprit for culprit in report["culprits"] if culprit["cause"] == "loop")
    if where == "busy":  # the function that burns is one below the one that called it
        assert culprit["function"] in ("cpu", "helper")
        return
    assert culprit["file"].endswith("test_lag.py")
    assert culprit["line"] == line_of(function, f"# {where}")
    assert culprit["function"] == function.__qualname__
    assert culprit["call"].startswith("time.sleep(0.06)" if where == "asleep" else "json.loads(LONG_JSON)")
    assert [text.strip() for _, text in culprit["excerpt"]][1].endswith(f"# {where}")
    if where == "asleep":
        assert culprit["task"] == "handler"
        assert 0.05 < report["max_stall"] < 1  # a loaded machine makes it longer


def never_ends(release: threading.Event) -> None:
    release.wait()  # hanging


@both_loops
def test_a_stall_that_does_not_end_is_found_with_its_line(run: Run) -> None:
    """Asked from another thread: the loop itself does not come to it any more."""
    release, reports = threading.Event(), []

    async def main() -> dict[str, Any]:
        async with LoopMonitor("mine") as monitor:

            def ask() -> None:
                time.sleep(0.3)
                reports.append(monitor.report())
                time.sleep(0.05)
                reports.append(monitor.report())
                release.set()

            await calm()
            asker = threading.Thread(target=ask)
            asker.start()
            never_ends(release)
            await calm()
            asker.join()
        return monitor.report()

    after = run(main())

    for report in reports:
        assert report["blocked"] is True, report
        assert {**stalls(report), "machine": 0} == {"loop": 1, "machine": 0}  # a loaded one may add some of its own
        assert report["max_stall"] > 0.2
        assert report["lag"]["max"] > 0.2
        (culprit,) = report["culprits"]
        assert (culprit["line"], culprit["function"]) == (line_of(never_ends, "# hanging"), "never_ends")
    assert {**stalls(after), "machine": 0} == {"loop": 1, "machine": 0}  # counted once, in the end


@both_loops
def test_a_callback_without_a_task_is_named_too(run: Run) -> None:
    def blocking_callback() -> None:
        time.sleep(0.15)

    async def main() -> dict[str, Any]:
        async with LoopMonitor() as monitor:
            await calm()
            asyncio.get_running_loop().call_soon(blocking_callback)
            await calm()
        return monitor.report()

    culprit = run(main())["culprits"][0]

    assert culprit["task"].endswith("blocking_callback")
    assert culprit["call"] == "time.sleep(0.15)"


@both_loops
def test_a_stall_in_the_first_step_is_found(run: Run) -> None:
    async def main() -> dict[str, Any]:
        async with LoopMonitor() as monitor:
            time.sleep(0.15)
        return monitor.report()

    report = run(main())

    assert report["blocked"] is True
    assert report["culprits"][0]["call"] == "time.sleep(0.15)"


def test_a_stall_under_the_limit_is_lag_and_no_stall() -> None:
    async def main() -> dict[str, Any]:
        async with LoopMonitor(limit_s=0.5) as monitor:
            await calm()
            time.sleep(0.15)
            await calm()
        return monitor.report()

    report = asyncio.run(main())

    assert (report["blocked"], report["stalls"]) == (False, 0)
    assert report["lag"]["max"] > 0.04


@pytest.mark.parametrize(("limit_s", "period_s"), [(0.010, 0.003), (0.010, 0.010), (0.005, 0.003)])
def test_a_stall_of_the_limit_and_half_a_period_is_always_found(limit_s: float, period_s: float) -> None:
    async def main() -> dict[str, Any]:
        async with LoopMonitor(limit_s=limit_s, period_s=period_s) as monitor:
            await calm()
            for _ in range(10):
                beat_ns = monitor._pulse.beat_ns
                while monitor._pulse.beat_ns == beat_ns:  # the worst moment to begin is right after a beat
                    await asyncio.sleep(0)
                time.sleep(limit_s + period_s / 2 + 0.002)  # 2 ms: how far a busy machine stretches a period
                await calm()
        return monitor.report()

    assert sum(stalls(asyncio.run(main())).values()) >= 10  # a loaded machine may add some of its own


def test_many_short_callbacks_are_load_and_no_stall() -> None:
    async def main() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        async with LoopMonitor() as monitor:
            await calm()
            for _ in range(10):
                for _ in range(60):
                    loop.call_soon(cpu, 0.0005)
                await asyncio.sleep(0.005)
        return monitor.report()

    report = asyncio.run(main())

    assert "loop" not in stalls(report)
    assert report["blocked"] is False
    assert report["lag"]["max"] > 0.02
    assert "short callbacks" in report["note"]


def busy_turn(monitor: LoopMonitor, long_s: float, *, is_first: bool = False) -> None:
    """Queue 80 ms of callbacks that each say that the loop goes on, and before or behind them one that holds it up."""
    loop = asyncio.get_running_loop()

    def step(seconds: float) -> None:
        monitor.alive()
        cpu(seconds)  # a step

    for seconds in [long_s, *[0.002] * 40] if is_first else [*[0.002] * 40, long_s]:
        loop.call_soon(step, seconds)


def test_a_queue_that_goes_on_is_no_stall_where_another_threads_clock_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ThreadMeter, "cpu_ns", lambda self: 0)  # as on macOS

    reports = []

    async def main() -> None:
        async with LoopMonitor() as monitor:

            def ask() -> None:
                time.sleep(0.08)  # amid the queue
                reports.append(monitor.report())

            cpu(0.1)
            await calm()
            monitor.reset()
            asker = threading.Thread(target=ask)
            asker.start()
            for _ in range(50):
                asyncio.get_running_loop().call_soon(cpu, 0.004)
            await asyncio.to_thread(asker.join)

    asyncio.run(main())

    assert [(report["blocked"], stalls(report).get("loop")) for report in reports] == [(False, None)]


def test_signs_of_life_spare_the_looks_at_a_long_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(Watchdog, "_keep", lambda self, view, wake, *_: looks.append(wake.now_ns))

    async def main(is_told: bool) -> int:
        async with LoopMonitor("mine") as monitor:
            monitor.alive = monitor.alive if is_told else lambda: True  # type: ignore[method-assign]
            await calm()
            looks.clear()
            busy_turn(monitor, 0.002)
            await asyncio.sleep(0)
            seen = len(looks)
            await calm()
        return seen

    # A machine that is busy itself delays steps beyond the watchdog's patience, but not most of them.
    assert asyncio.run(main(True)) <= 4
    assert asyncio.run(main(False)) >= 8


def test_a_long_queue_with_signs_of_life_needs_no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[float] = []
    settled = Watchdog._settled

    def judge(watchdog: Watchdog, late: Late) -> Stall:
        judged.append(late.length_ns)
        return settled(watchdog, late)

    monkeypatch.setattr(Watchdog, "_settled", judge)

    async def main(is_told: bool) -> tuple[int, str]:
        async with LoopMonitor("mine", 0.05) as monitor:
            monitor.alive = monitor.alive if is_told else lambda: True  # type: ignore[method-assign]
            await calm()
            judged.clear()
            busy_turn(monitor, 0.002)
            await calm()
        return len(judged), monitor.report()["note"]

    told, note = asyncio.run(main(True))

    assert "Many short callbacks" in note
    assert told < asyncio.run(main(False))[0]


def test_how_long_the_watchdog_waits_for_the_gil_is_not_forgotten_for_a_sign_of_life() -> None:
    async def main() -> tuple[bool, bool]:
        async with LoopMonitor() as monitor:
            watchdog, now = monitor._watchdog, time.perf_counter_ns()
            assert watchdog is not None
            alarm = watchdog._alarm
            alarm.due_ns = rang_ns = now - 20_000_000
            watchdog.beaten(now, False)
            kept = alarm.due_ns == rang_ns
            alarm.due_ns = now + 1_000_000
            watchdog.beaten(now, False)
            return kept, alarm.due_ns == now + watchdog.patience_ns

    assert asyncio.run(main()) == (True, True)


@pytest.mark.parametrize(
    ("wakes", "gil_wait_ms", "interval_ms", "is_one"),
    [
        (23, 110.8, 5, True),  # a regular expression
        (29, 15.7, 0.5, True),  # json.loads
        (1, 0.0, 0.5, True),
        (117, 3.5, 0.5, False),  # a burst of connections: each system call lets the GIL go
        (11, 0.6, 0.5, False),
        (29, 15.7, 2, False),
        (117, 3.5, 0.001, False),
    ],
)
def test_a_gil_that_was_let_go_in_between_was_not_kept_by_one_call(
    wakes: int, gil_wait_ms: float, interval_ms: float, is_one: bool
) -> None:
    assert is_one_call(wakes, int(gil_wait_ms * 1e6), interval_ms / 1e3) is is_one


def test_what_woke_the_watchdog_while_it_judged_does_not_count_for_the_next_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    charged: list[Stall] = []
    on_stall = LoopMonitor._on_stall

    def slow_judge(monitor: LoopMonitor, stall: Stall) -> None:
        on_stall(monitor, stall)
        for _ in range(1000):
            time.sleep(0.00001)
        charged.append(stall)

    monkeypatch.setattr(LoopMonitor, "_on_stall", slow_judge)

    async def main() -> list[int]:
        found = []
        async with LoopMonitor() as monitor:
            await calm()
            for _ in range(3):
                time.sleep(0.02)
                while not charged:
                    await asyncio.sleep(0.005)
                sum(range(3_000_000))  # one call that keeps the GIL, for 20 ms at least
                await calm()
                found.append(stalls(monitor.report()).get("loop", 0))
                monitor.reset()
                charged.clear()
        return found

    assert asyncio.run(main()) == [2, 2, 2]


def test_the_pace_follows_the_load_where_every_beat_is_late() -> None:
    async def main() -> int:
        async with LoopMonitor(period_s=0.01) as monitor:
            while monitor._pace_ns == 10_000_000:
                await asyncio.sleep(0.01)
            end = time.perf_counter() + 5
            while monitor._pace_ns < 10_000_000 and time.perf_counter() < end:
                for _ in range(20):
                    asyncio.get_running_loop().call_soon(lambda: cpu(0.002))
                await asyncio.sleep(0)
            return monitor._pace_ns

    assert asyncio.run(main()) == 10_000_000


@pytest.mark.parametrize(
    ("load", "limit_ms", "period_ms", "pace_ms"),
    [
        (0.1, 10, 3, 1),
        (0.3, 10, 3, 2),
        (0.7, 10, 3, 3),
        (1.0, 10, 3, 5),
        (0.1, 10, 1, 1),  # uvloop counts whole milliseconds
        (1.0, 5, 3, 3),  # beats further apart would be half as far as the limit, and more
        (1.0, 20, 20, 20),
    ],
)
def test_a_loop_with_cpu_to_spare_beats_faster_and_a_saturated_one_slower(
    load: float, limit_ms: int, period_ms: int, pace_ms: float
) -> None:
    monitor = LoopMonitor("mine", limit_ms / 1e3, period_ms / 1e3)
    monitor._load = load
    monitor._change_pace()
    assert monitor._pace_ns == pytest.approx(pace_ms * 1e6, abs=1000)


@pytest.mark.parametrize(("load", "least_us", "most_us"), [(0.0, 0, 0), (0.94, 0, 0), (0.95, 900, 1000)])
def test_what_the_loop_waited_for_a_cpu_before_its_last_beat_is_not_held_against_a_stall(
    monkeypatch: pytest.MonkeyPatch, load: float, least_us: int, most_us: int
) -> None:
    """Waits of 0.1 ms at beats in time, and none in the stall."""
    clock_ns, delay_ns, us = 0, 0, 1000
    monkeypatch.setattr(heartbeat, "perf_counter_ns", lambda: clock_ns)
    monkeypatch.setattr(heartbeat, "thread_time_ns", lambda: 0)
    monkeypatch.setattr(ThreadMeter, "run_delay_ns", lambda _: delay_ns)
    monitor = LoopMonitor()
    monitor._meter, monitor._load = ThreadMeter(), load
    monitor._read_delay(0)
    monitor._window_ns = sys.maxsize
    for _ in range(20):
        delay_ns += 100 * us
        clock_ns += 100 * us
        monitor._measure()
    clock_ns += 50_000 * us
    monitor._measure()
    assert least_us * us <= monitor._pulse.late[0].run_delay_ns <= most_us * us


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize(("long_s", "blocked"), [(0.015, False), (0.040, True)])
def test_what_blocks_among_signs_of_life_is_charged_its_own_time(long_s: float, blocked: bool, is_first: bool) -> None:
    async def main() -> dict[str, Any]:
        async with LoopMonitor("mine", 0.02) as monitor:
            await calm()
            busy_turn(monitor, long_s, is_first=is_first)
            await calm()
        return monitor.report()

    report = asyncio.run(main())

    assert report["blocked"] is blocked, report
    assert report["lag"]["max"] > 0.06
    assert ("Many short callbacks" in report["note"]) is not blocked
    assert [culprit["function"] for culprit in report["culprits"] if culprit["cause"] == "loop"] in (
        [["cpu"], ["busy_turn.<locals>.step"]] if blocked else [[]]
    )


@both_loops
@pytest.mark.parametrize("is_told", [False, True])
def test_calls_that_block_one_behind_the_other_are_a_stall_each(run: Run, is_told: bool) -> None:
    """A burst of requests in one turn of the loop, each of which blocks: the loop is late by all of them together."""

    async def request(monitor: LoopMonitor) -> None:
        if is_told:
            monitor.alive()
        time.sleep(0.03)

    async def main() -> dict[str, Any]:
        async with LoopMonitor("mine") as monitor:
            await calm()
            await asyncio.gather(*(request(monitor) for _ in range(10)))
            await calm()
        return monitor.report()

    report = run(main())

    [culprit] = [culprit for culprit in report["culprits"] if culprit["cause"] == "loop"]
    assert culprit["line"] == line_of(request, "time.sleep(0.03)")
    assert culprit["count"] >= 9, report["by_cause"]  # by the machine one may be hidden
    assert culprit["longest_s"] < 0.1 < 0.25 < report["lag"]["max"]
    assert 0.2 < report["blocked_s"] <= report["lag"]["max"] + report["period_s"]


def test_a_look_that_takes_longer_than_the_switch_interval_loses_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a slow machine: the loop takes the GIL back amid the look at one call, and begins the next."""
    evil, may_block_again = re.compile(r"(a+)+$"), Watchdog._may_block_again

    def slow(watchdog: Watchdog, overdue: bool) -> bool:
        cpu(2 * HURRY_S)
        return may_block_again(watchdog, overdue)

    async def main() -> dict[str, Any]:
        async with LoopMonitor() as monitor:
            await calm()
            monkeypatch.setattr(Watchdog, "_may_block_again", slow)
            for _ in range(20):
                evil.match("a" * 20 + "b")  # keeps the GIL
                await asyncio.sleep(0)
            await calm()
        return monitor.report()

    report = asyncio.run(main())

    assert stalls(report)["loop"] > 11  # so many there are if no look is taken again


def test_a_collection_provoked_on_purpose_is_named() -> None:
    async def main() -> dict[str, Any]:
        async with LoopMonitor() as monitor:
            await calm()
            cells: list[list[Any]] = [[] for _ in range(400_000)]
            for cell in cells:
                cell.append(cell)
            del cells
            await calm()
            monitor.reset()
            gc.collect()  # here
            await calm()
        return monitor.report()

    gc.disable()
    try:
        report = asyncio.run(main())
    finally:
        gc.enable()

    assert stalls(report)["gc"] == 1
    assert "loop" not in stalls(report)
    assert report["blocked"] is False
    culprit = next(culprit for culprit in report["culprits"] if culprit["cause"] == "gc")
    assert culprit["call"] == "gc.collect()"


def hold_the_gil(length: int) -> None:
    re.match(r"(a+)+$", "a" * length + "b")  # one C call, of 100 ms or more


def test_the_holder_of_the_gil_is_named() -> None:
    async def main() -> dict[str, Any]:
        with ThreadPoolExecutor(1, thread_name_prefix="cruncher") as pool:
            pool.submit(int).result()  # to start a thread is to wait for it
            async with LoopMonitor() as monitor:
                await calm()
                for _ in range(8):
                    await asyncio.get_running_loop().run_in_executor(pool, hold_the_gil, 22)
        return monitor.report()

    report = asyncio.run(main())

    assert "loop" not in stalls(report)
    named = [culprit for culprit in report["culprits"] if culprit["cause"] == "gil"]
    assert report["blocked"] is True
    assert named[0]["task"] == "cruncher_0"
    assert "hold_the_gil" in {culprit["function"] for culprit in named}


@pytest.mark.parametrize("is_idle", [True, False], ids=["idle", "in a callback"])
def test_waiting_for_the_gil_for_long_is_no_work_of_the_loops(is_idle: bool) -> None:
    """Who waits wakes in each switch interval: here for some 50 ms of CPU time in half a second."""
    usual = sys.getswitchinterval()

    async def main() -> dict[str, Any]:
        with ThreadPoolExecutor(1, thread_name_prefix="cruncher") as pool:
            pool.submit(int).result()
            async with LoopMonitor() as monitor:
                await calm()
                held = asyncio.get_running_loop().run_in_executor(pool, hold_the_gil, 24)
                if not is_idle:
                    time.sleep(0.002)  # lets the GIL go
                await held
                await calm()
        return monitor.report()

    sys.setswitchinterval(0.00005)
    try:
        report = asyncio.run(main())
    finally:
        sys.setswitchinterval(usual)

    assert {**stalls(report), "machine": 0} == {"gil": 1, "machine": 0}
    assert report["blocked"] is True


class Steal:
    """Stands for a hypervisor: what it has stolen so far."""

    def __init__(self) -> None:
        self.ns = 0

    def steal_ns(self) -> int:
        return self.ns

    def close(self) -> None:
        pass


def watchdog_of_this_thread(pulse: Pulse) -> tuple[Watchdog, Steal]:
    meter, steal = ThreadMeter(), Steal()
    watchdog = Watchdog(
        meter, pulse, 1_000_000, 0.01, Watched(lambda: None, lambda: True, lambda: False), lambda stall: None
    )
    meter.close()
    watchdog.baseline.close()
    watchdog.baseline._steal, watchdog.baseline._steal_ns = steal, 0  # type: ignore[assignment]
    return watchdog, steal


def test_a_wait_that_reaches_into_the_next_late_beat_is_divided() -> None:
    watchdog, _ = watchdog_of_this_thread(Pulse(0, 0))
    watchdog._waits.append(Wait(since_ns=40, until_ns=100, gil_ns=30, cpu_ns=12, suspended_ns=18, spent_ns=6))
    found = [watchdog._stall(Late(begun, ended, 0, 0, 0), []) for begun, ended in [(0, 40), (40, 60), (60, 120)]]
    watchdog._close()

    parts = [(stall.witness_ns, stall.witness_delay_ns, stall.suspended_ns, stall.witness_spent_ns) for stall in found]
    assert parts == [(0, 0, 0, 0), (10, 4, 6, 2), (20, 8, 12, 4)]


def test_what_was_seen_after_a_late_beat_is_kept_for_the_next() -> None:
    watchdog, _ = watchdog_of_this_thread(Pulse(0, 0))
    samples = [Sample(at, at, 0, (), 0, None, 0, None) for at in (10, 50, 80)]
    watchdog._segments = [Segment(None, "answer", samples, idle=False)]
    found = [watchdog._settled(Late(begun, ended, 0, 0, 0)) for begun, ended in [(20, 60), (60, 120)]]
    watchdog._close()

    seen = [[sample.at_ns for segment in stall.segments for sample in segment.samples] for stall in found]
    assert seen == [[50], [80]]


@pytest.mark.parametrize(("another_seen_ns", "wait_ns"), [(0, 1_000_000), (11_000_000, 4_500_000)])
def test_a_stalls_first_callback_is_looked_at_again_at_once(another_seen_ns: int, wait_ns: int) -> None:
    """Only a callback behind another one of the same stall may wait; what was seen before the last beat was before."""
    watchdog, _ = watchdog_of_this_thread(Pulse(10_000_000, 0, alive_ns=10_000_000))
    watchdog.patience_ns = 9_000_000
    looks_ns = (another_seen_ns, 20_000_000)
    watchdog._segments = [Segment(None, None, [Sample(at, at, 0, (), 0, None, 0, None)], idle=False) for at in looks_ns]
    waits = watchdog._next_look_ns(20_000_000)
    watchdog._close()

    assert waits == wait_ns


def test_to_settle_a_late_beat_touches_nothing_that_was_seen_after_it() -> None:
    """Else the cost of many late beats in a row grows with their square."""
    watchdog, _ = watchdog_of_this_thread(Pulse(0, 0))
    seen = [Segment(None, "answer", [Sample(at, at, 0, (), 0, None, 0, None)], idle=False) for at in range(10, 100, 10)]
    waits = [Wait(at, at + 5, gil_ns=5, cpu_ns=0, suspended_ns=0, spent_ns=0) for at in range(10, 100, 10)]
    watchdog._segments = seen
    watchdog._waits.extend(waits)
    stall = watchdog._settled(Late(10, 30, 0, 0, 0))
    watchdog._close()

    assert [segment.samples[0].at_ns for segment in stall.segments] == [10, 20, 30]
    assert stall.witness_ns == 10
    assert all(kept is segment for kept, segment in zip(watchdog._segments, seen[3:], strict=True))
    assert list(watchdog._waits) == waits[2:]


def test_threads_that_used_no_cpu_are_not_asked_who_kept_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog, _ = watchdog_of_this_thread(Pulse(0, 0))
    monkeypatch.setattr("asyncload_lib.eventloop.baseline.HELD_NS", 50_000_000)  # other tests' threads may be left
    watchdog.baseline.take(time.perf_counter_ns())
    with monkeypatch.context() as without:
        without.setattr("asyncload_lib.eventloop.baseline.threads_cpu_ns", None)
        without.setattr(watchdog._sight, "_frames", None)
        assert watchdog.holder() is None
    thread = threading.Thread(target=cpu, args=(0.1,), name="holder")
    thread.start()
    thread.join()  # the kernel counts it on, though it has ended
    assert watchdog.baseline._others_cpu_ns() - watchdog.baseline._others_ns >= 100_000_000
    watchdog._close()


@pytest.mark.parametrize(("used_before", "named"), [(95, "as the loop saw it"), (50, "as the watchdog saw it")])
def test_of_the_holders_looks_the_first_after_its_call_counts(used_before: int, named: str) -> None:
    watchdog, _ = watchdog_of_this_thread(Pulse(0, 0))
    late = Late(0, 60, 2, 0, 0, holder=Holder("as the loop saw it", (), used_before))

    stall = watchdog._stall(late, [], Holder("as the watchdog saw it", (), 100))
    watchdog._close()

    assert stall.holder is not None
    assert stall.holder.name == named


def test_a_look_at_a_holder_that_sleeps_by_then_counts_only_where_there_is_no_other() -> None:
    watchdog, _ = watchdog_of_this_thread(Pulse(0, 0))
    late = Late(0, 60, 2, 0, 0, holder=Holder("asleep", (), 99, has_ended=True))

    other = watchdog._stall(late, [], Holder("in its call", (), 100)).holder
    alone = watchdog._stall(late, [], Holder("another, which did little", (), 50)).holder
    watchdog._close()

    assert other is not None
    assert alone is not None
    assert (other.name, alone.name) == ("in its call", "asleep")


@pytest.mark.parametrize("sleeps", [True, False])
def test_the_line_of_a_holder_that_sleeps_by_then_is_shown_as_what_came_after(sleeps: bool) -> None:
    watchdog, _ = watchdog_of_this_thread(Pulse(0, 0))
    ended, reached = threading.Event(), threading.Event()

    def hold() -> None:
        cpu(0.05)
        reached.set()
        if sleeps:
            ended.wait()
        while not ended.is_set():
            pass

    thread = threading.Thread(target=hold, name="holder")
    thread.start()
    reached.wait()
    deadline = time.monotonic() + 5
    holder = watchdog.holder()
    while holder is not None and holder.has_ended is not sleeps and time.monotonic() < deadline:
        holder = watchdog.holder()
    ended.set()
    thread.join()
    watchdog._close()
    stall = Stall(Late(0, 60_000_000, 0, 0, 0), [], 0, None, 60_000_000, 0, 0, 0, holder)
    findings = Findings(0, 0.01, 0.003)
    charge(stall, [], 0, findings)
    report = findings.report("loop", 60_000_000)

    assert [culprit["task"] for culprit in report["culprits"]] == ["holder"]
    assert report["culprits"][0]["call"].startswith(AFTERWARDS) is sleeps


def test_a_holder_that_goes_on_amid_the_look_is_shown_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog, _ = watchdog_of_this_thread(Pulse(0, 0))
    go_on: list[bool] = []
    ended = threading.Event()

    def hold() -> None:
        while not go_on:  # spins
            pass
        ended.wait()

    thread = threading.Thread(target=hold, name="holder")
    thread.start()
    ident = thread.ident
    assert ident is not None

    def slow() -> dict[tuple[int, int], int]:
        found = threads_cpu_ns()
        go_on.append(True)
        while sys._current_frames()[ident].f_code.co_name != "wait":
            time.sleep(0.001)
        return found

    monkeypatch.setattr("asyncload_lib.eventloop.baseline.threads_cpu_ns", slow)
    while sys._current_frames()[ident].f_code is not hold.__code__:
        time.sleep(0.001)
    holder = watchdog.holder()
    ended.set()
    thread.join()
    watchdog._close()

    assert holder is not None
    assert (holder.name, holder.has_ended) == ("holder", False)
    spot = culprit_spot(holder.stack)
    assert spot is not None
    assert line_of(hold, "# spins") <= spot.line <= line_of(hold, "pass")


def test_who_asks_for_a_stall_that_goes_on_holds_no_frame_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it may be the last to let go of one, and the frame's locals are freed in the wrong thread."""
    pulse = Pulse(0, 0)
    watchdog, _ = watchdog_of_this_thread(pulse)
    freed: list[bool] = []

    def callback() -> FrameType:
        local = type("Local", (), {"__del__": lambda self: freed.append(True)})()
        assert local is not None
        return sys._getframe()

    watchdog._segments = [Segment(callback(), None, [Sample(10, 10, 0, (), 0, None, 0, None)], idle=False)]
    stall = watchdog._stall

    def interrupted(late: Late, inside: list[Segment]) -> Stall:
        watchdog._let_go(watchdog._segments)  # the watchdog settles it, and the loop's thread beats
        pulse.discard.clear()
        assert freed == [True]
        return stall(late, inside)

    monkeypatch.setattr(watchdog, "_stall", interrupted)
    assert watchdog.unended(Late(0, 20, 0, 0, 0)).samples == 1
    watchdog._close()


def test_a_reset_amid_a_beat_begins_without_that_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Monitor("x")
    monitor._begin()

    def reset(now: int, look: bool) -> None:
        monitor._findings = monitor._findings.anew(now)  # as another thread does

    with monkeypatch.context() as interrupted:
        interrupted.setattr(monitor._watchdog, "beaten", reset)
        monitor._pulse.beat_ns -= 200_000_000
        monitor._pulse.silent_ns, monitor._pulse.begun_ns = 0, time.perf_counter_ns()  # a queue
        monitor._measure()
    findings = monitor._findings
    monitor._end()

    assert findings.beats <= 1  # that of the end
    assert findings.report("x", time.perf_counter_ns())["lag"]["max"] < 0.1


def test_a_collection_whose_start_was_missed_is_no_pause() -> None:
    """CPython walks the list of listeners by index: who stands behind one that leaves it is skipped."""
    heard = GcPauses()
    heard._heard("start", {"generation": 0})
    heard._heard("stop", {"generation": 0})
    time.sleep(0.005)
    heard._heard("stop", {"generation": 0})

    assert heard.within(0, time.perf_counter_ns()) == []


def test_collections_are_off_until_the_last_look_has_ended() -> None:
    with uncollected:
        first = ExitStack()
        first.enter_context(uncollected)
        second = gc.isenabled()
        first.close()
        after_one = gc.isenabled()

    assert (second, after_one, gc.isenabled()) == (False, False, True)


def test_a_late_beat_is_settled_when_the_loop_beats_in_time_or_somebody_waits_for_it_or_there_are_many() -> None:
    """To settle it takes long: a loop that blocks again has the GIL back by then, and its next call is unseen."""
    pulse = Pulse(0, 0)
    watchdog, _ = watchdog_of_this_thread(pulse)
    settled: list[Stall] = []
    watchdog._on_stall = settled.append

    def left_of(beats: int, *, overdue: bool, beat_ns: int = MOST_UNSETTLED + 1) -> tuple[int, int]:
        pulse.late.extend(Late(number, number + 1, 0, 0, 0) for number in range(beats))
        settled.clear()
        now = time.perf_counter_ns()
        pulse.alive_ns = now - 100_000_000 if overdue else now + 1_000_000_000
        pulse.beat_ns = beat_ns
        watchdog._look(now, time.thread_time_ns(), now)
        return len(pulse.late), len(settled)

    assert left_of(3, overdue=True) == (3, 0)
    assert left_of(0, overdue=False, beat_ns=3) == (3, 0), "the beat that came late is the last one"
    assert left_of(0, overdue=False) == (0, 3)
    assert left_of(MOST_UNSETTLED, overdue=True) == (MOST_UNSETTLED, 0)
    assert left_of(1, overdue=True) == (MOST_UNSETTLED, 1)
    asleep = Late(0, 20_000_000, 0, cpu_ns=0, run_delay_ns=0)
    pulse.late.append(asleep)
    pulse.beat_ns = asleep.now_ns
    assert not watchdog._may_block_again(overdue=False), "it gave the GIL away, and whoever has it goes on"
    pulse.late.pop()
    watchdog.is_awaited = True
    assert left_of(0, overdue=True) == (0, MOST_UNSETTLED)
    watchdog._let_go(watchdog._segments)
    switch_interval.leave(watchdog)
    watchdog._close()


def test_who_charges_a_stall_asks_neither_the_file_system_nor_for_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both give the GIL away; where the loop blocks again it comes back after the next call."""
    frame = sys._getframe()
    stack = positions([frame])
    samples = [Sample(at * 1_000_000, at * 1_000_000, 0, stack, at * 1_000_000, RUNNING, 0, None) for at in (8, 59)]
    late = Late(0, 60_000_000, 0, 60_000_000, 0)
    stall = Stall(late, [Segment(None, "task", samples, idle=False)], 2, None, 0, 0, 0, 0, None)
    findings = Findings(0, 0.01, 0.003)
    places.rank.cache_clear()
    with monkeypatch.context() as without:
        for asked in ("os.getcwd", "os.stat", "os.lstat", "os.path.realpath", "linecache.getlines", "builtins.open"):
            without.setattr(asked, None)
        charge(stall, [], 0, findings)
    (culprit,) = findings.report("loop", 60_000_000)["culprits"]
    assert (culprit["function"], culprit["call"]) == (frame.f_code.co_qualname, "positions([frame])")


def test_a_loop_looked_at_again_and_again_does_not_put_the_baseline_off() -> None:
    pulse = Pulse(0, 0)
    watchdog, _ = watchdog_of_this_thread(pulse)
    taken = []
    for now in range(0, 200_000_000, 10_000_000):
        pulse.beat_ns = pulse.alive_ns = now
        watchdog._look(now + 2_000_000, time.thread_time_ns(), now + 2_000_000)  # the beat is overdue
        pulse.beat_ns = pulse.alive_ns = now + 3_000_000
        watchdog._look(now + 3_000_000, time.thread_time_ns(), now + 3_000_000)
        taken.append(watchdog.baseline.taken_ns)
    switch_interval.leave(watchdog)
    watchdog._close()

    assert sorted(set(taken)) == [0, 43_000_000, 83_000_000, 123_000_000, 163_000_000]


@pytest.mark.parametrize(("when", "seen"), [("_reading", 0), ("_frames", 0), ("_waited", 1), ("hand_back", 1)])
def test_a_look_counts_if_the_loop_goes_on_only_after_its_stack_was_taken(when: str, seen: int) -> None:
    watchdog, _ = watchdog_of_this_thread(Pulse(0, 0))
    here = sys._getframe().f_code
    place = watchdog if hasattr(watchdog, when) else watchdog._sight
    usual = getattr(place, when)

    def let_the_loop_go_on(*arguments: Any) -> Any:
        cpu(2 * UNSEEN_NS / 1e9)  # watchdog and loop are one thread here
        return usual(*arguments)

    setattr(place, when, let_the_loop_go_on)
    now = time.perf_counter_ns()
    watchdog._look(now, time.thread_time_ns(), now - 2 * PROVING_NS)
    looks = [sample for segment in watchdog._segments for sample in segment.samples]
    switch_interval.leave(watchdog)
    watchdog._close()

    assert len(looks) == seen
    for sample in looks:
        assert here in dict(sample.stack)
        assert sample.cpu_ns < time.thread_time_ns() - UNSEEN_NS, "its clock is of the same moment"
    assert watchdog._unseen_ns() >= 2 * UNSEEN_NS, "so it looks again"


def test_a_wait_counts_from_the_last_beat_that_was_settled() -> None:
    """Settling may have taken long, and a look that is taken again must not take that for a wait."""
    pulse = Pulse(0, 0)
    watchdog, _ = watchdog_of_this_thread(pulse)
    asked: list[int] = []
    watchdog._reading = lambda: _Reading(len(asked), 0, 0)
    watchdog._on_stall = lambda _: asked.append(1)
    pulse.late.extend(Late(number, number + 1, 0, 0, 0) for number in range(3))
    pulse.beat_ns = pulse.alive_ns = time.perf_counter_ns() + 1_000_000_000
    now = time.perf_counter_ns()
    watchdog._look(now, time.thread_time_ns(), now)
    switch_interval.leave(watchdog)
    watchdog._close()

    assert watchdog._before.run_delay_ns == len(asked) == 3


def test_the_loops_thread_is_the_last_to_let_go_of_a_task_whose_name_was_asked() -> None:
    async def main() -> tuple[str | None, list[object], list[object]]:
        async with LoopMonitor() as monitor:
            name, task = monitor._task_name(), asyncio.current_task()
            assert task is not None
            return name, [task, task.get_coro()], monitor._pulse.discard[-2:]

    name, held, discarded = asyncio.run(main())
    assert name is not None
    assert name.endswith("main")
    assert discarded == held


def test_the_baseline_is_not_renewed_while_a_beat_is_overdue_though_the_loop_gave_a_sign_of_life() -> None:
    pulse = Pulse(0, 0)
    watchdog, _ = watchdog_of_this_thread(pulse)
    watchdog._look(1, time.thread_time_ns(), 1)
    pulse.beat_ns = pulse.alive_ns = 100_000_000
    watchdog._look(100_100_000, time.thread_time_ns(), 100_100_000)
    pulse.alive_ns = 170_000_000  # whoever kept the GIL has just let it go; the beat comes after this request
    watchdog._look(170_100_000, time.thread_time_ns(), 170_100_000)
    taken_ns = watchdog.baseline.taken_ns
    switch_interval.leave(watchdog)
    watchdog._close()

    assert taken_ns == 100_100_000


def test_what_a_machine_that_was_never_robbed_loses_counts_from_the_first_time() -> None:
    watchdog, steal = watchdog_of_this_thread(Pulse(0, 0))
    steal.ns = 40_000_000

    stall = watchdog._stall(Late(0, 60_000_000, 0, 0, 0), [])
    watchdog._close()

    assert stall.steal_ns == 40_000_000


def test_what_was_stolen_is_held_against_each_late_beat_in_part_and_only_once() -> None:
    pulse = Pulse(0, 0)
    watchdog, steal = watchdog_of_this_thread(pulse)
    steal.ns = 40_000_000
    pulse.late.extend(Late(begun, begun + 100_000_000, 0, 0, 0) for begun in (0, 100_000_000))

    charged_ns = []
    while pulse.late:
        charged_ns.append(watchdog._settled(pulse.late[0]).steal_ns)
        pulse.late.popleft()
    later_ns = watchdog._settled(Late(200_000_000, 300_000_000, 0, 0, 0)).steal_ns
    watchdog._close()

    assert charged_ns == [20_000_000, 20_000_000]
    assert later_ns == 0


@pytest.mark.parametrize(
    ("stolen_ns", "burns", "is_calm"), [(0, False, True), (10_000_000, False, False), (0, True, False)]
)
def test_calm_is_a_process_whose_other_threads_sleep_on_a_machine_of_its_own(
    stolen_ns: int, burns: bool, is_calm: bool
) -> None:
    watchdog, steal = watchdog_of_this_thread(Pulse(0, 0))
    asked, burnt, end = threading.Event(), threading.Event(), threading.Event()

    def other() -> None:
        asked.wait()
        if burns:
            cpu(0.02)
        burnt.set()
        end.wait()

    thread = threading.Thread(target=other)
    thread.start()
    watchdog.baseline.take(0)
    asked.set()
    burnt.wait()
    steal.ns += stolen_ns
    watchdog.baseline.take(1_000_000_000)
    end.set()
    thread.join()
    watchdog._close()

    assert watchdog.baseline.is_calm is is_calm


@pytest.mark.parametrize(("is_calm", "wait_ns"), [(False, CHORES_NS), (True, CALM_CHORES_NS)])
def test_the_baseline_of_a_calm_process_is_taken_less_often(is_calm: bool, wait_ns: int) -> None:
    async def main() -> int:
        async with LoopMonitor() as monitor:
            assert monitor._watchdog is not None
            monitor._window_ns = monitor._chores_ns = 0
            monitor._watchdog.baseline.is_calm = is_calm
            monitor._measure()
            return monitor._chores_ns - monitor._pulse.beat_ns

    assert asyncio.run(main()) == wait_ns


def test_a_thread_is_not_taken_for_one_that_ended_before_it() -> None:
    """The identifier of an ended thread is given to the next one: its CPU time is not to be held against that."""
    seen: set[tuple[int, int]] = set()

    def look() -> None:
        with uncollected:
            seen.update(thread for thread in threads_cpu_ns() if thread[0] == threading.get_ident())

    for _ in range(20):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    assert len(seen) == 20


def test_waiting_for_a_lock_is_the_loops_own_fault_not_the_gil() -> None:
    lock = threading.Lock()

    async def main() -> dict[str, Any]:
        async with LoopMonitor() as monitor:
            await calm()
            lock.acquire()
            threading.Timer(0.06, lock.release).start()
            lock.acquire()  # waits
            await calm()
        return monitor.report()

    report = asyncio.run(main())

    assert stalls(report).get("loop") == 1
    assert report["culprits"][0]["call"] == "lock.acquire()"


def test_reset_begins_anew() -> None:
    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        async with LoopMonitor() as monitor:
            await calm()
            time.sleep(0.15)
            before = monitor.report()
            monitor.reset()
            await calm()
            return before, monitor.report()

    before, after = asyncio.run(main())

    assert before["blocked"] is True
    assert (after["culprits"], after["stalls"], after["blocked"]) == ([], 0, False)
    assert after["watched_s"] < before["watched_s"]


@both_loops
def test_what_blocked_before_a_reset_in_the_same_turn_of_the_loop_does_not_count(run: Run) -> None:
    async def main() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        async with LoopMonitor() as monitor:
            for _ in range(3):
                await calm()
                loop.call_soon(cpu, 0.1)
                loop.call_soon(lambda: time.sleep(0.1))
                loop.call_soon(monitor.reset)
            await calm()
        return monitor.report()

    report = run(main())

    assert stalls(report).get("loop", 0) == 0, report["culprits"]
    assert report["lag"]["max"] < 0.09
    assert report["note"] == ""


@both_loops
@pytest.mark.parametrize("rest_s", [0.002, 0.15])
def test_of_a_stall_only_what_comes_after_a_reset_counts(run: Run, rest_s: float) -> None:
    async def main() -> dict[str, Any]:
        async with LoopMonitor() as monitor:
            release = threading.Event()

            def renew() -> None:
                time.sleep(0.3)
                monitor.reset()
                time.sleep(rest_s)
                release.set()

            await calm()
            thread = threading.Thread(target=renew)
            thread.start()
            never_ends(release)
            thread.join()
            await calm()
        return monitor.report()

    report = run(main())

    if rest_s < 0.01:
        assert report["max_stall"] < 0.2  # a loaded machine may stretch the rest over the limit
    else:
        assert 0.13 < report["max_stall"] < 0.28, report
        assert {culprit["function"] for culprit in report["culprits"]} == {"never_ends"}
    assert report["lag"]["max"] < 0.28
    assert report["watched_s"] < 0.4


def test_the_report_can_be_read_in_another_thread_and_after_the_end() -> None:
    async def main() -> LoopMonitor:
        async with LoopMonitor() as monitor:
            await calm()
            time.sleep(0.15)
            await calm()
            assert (await asyncio.to_thread(monitor.report))["blocked"] is True
        return monitor

    monitor = asyncio.run(main())

    assert monitor.report()["blocked"] is True
    assert monitor.report()["watched_s"] == monitor.report()["watched_s"]


def test_frames_of_the_loop_are_not_kept_alive() -> None:
    class Heavy:
        pass

    freed_in: list[int] = []

    def blocking() -> None:
        heavy = Heavy()
        heavy.__class__.__del__ = lambda self: freed_in.append(threading.get_ident())  # type: ignore[attr-defined]
        time.sleep(0.15)

    async def main() -> None:
        async with LoopMonitor():
            await calm()
            asyncio.get_running_loop().call_soon(blocking)
            await asyncio.sleep(0.5)
            assert freed_in == [threading.get_ident()]

    asyncio.run(main())


def test_frames_that_were_seen_and_not_late_are_not_kept_behind_the_end() -> None:
    class Heavy:
        pass

    def ended() -> FrameType:
        heavy = Heavy()
        held.append(weakref.ref(heavy))
        return sys._getframe()

    async def main() -> LoopMonitor:
        async with LoopMonitor() as monitor:
            await calm()
            assert monitor._watchdog is not None
            seen = Sample(time.perf_counter_ns() + 10**12, 0, 0, (), 0, None, 0, None)  # no look comes to let it go
            monitor._watchdog._segments = [Segment(ended(), None, [seen], idle=False)]
        return monitor

    held: list[weakref.ref[Heavy]] = []
    monitor = asyncio.run(main())
    assert monitor.report()["blocked"] is False
    assert [reference() for reference in held] == [None]


def test_what_ends_amid_a_look_is_freed_by_the_loops_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Freed by the watchdog it would hold the loop up, and nobody would know by what."""
    freed_in: list[int] = []

    class Heavy:
        def __del__(self) -> None:
            freed_in.append(threading.get_ident())

    def inner() -> None:
        heavy = Heavy()  # noqa: F841 - a local
        cpu(0.02)

    def blocking() -> None:
        for _ in range(10):
            inner()

    def slow(frames: list[FrameType]) -> tuple[Position, ...]:
        found = positions(frames)
        time.sleep(0.03)  # meanwhile the loop goes on
        return found

    monkeypatch.setattr("asyncload_lib.eventloop.sight.positions", slow)

    async def main() -> dict[str, Any]:
        async with LoopMonitor() as monitor:
            await calm()
            asyncio.get_running_loop().call_soon(blocking)
            await asyncio.sleep(0.5)
            await calm()
        return monitor.report()

    assert stalls(asyncio.run(main()))["loop"] == 1
    assert freed_in == 10 * [threading.get_ident()]


def test_a_watchdog_that_failed_leaves_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Watchdog, *_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(Watchdog, "_look", broken)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    async def main() -> dict[str, Any]:
        async with LoopMonitor() as monitor:
            time.sleep(0.15)
            await calm()
        return monitor.report()

    report = asyncio.run(main())

    assert report["blocked"] is None
    assert "broken on purpose" in report["note"]


def test_a_heartbeat_that_failed_is_forgotten_when_the_monitor_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Findings, *_: object) -> None:
        raise RuntimeError("broken on purpose")

    async def main() -> list[dict[str, Any]]:
        monitor = LoopMonitor()
        monitor.start()
        with monkeypatch.context() as patch:
            patch.setattr(Findings, "lag", broken)
            await calm()
        reports = [monitor.report()]
        monitor.stop()
        async with monitor:
            await calm()
            return [*reports, monitor.report()]

    first, second = asyncio.run(main())

    assert (first["blocked"], second["blocked"]) == (None, False)
    assert "The heartbeat failed: RuntimeError" in first["note"]
    assert second["note"] == ""


@pytest.mark.parametrize("step_ns", [0, 10**18])
def test_a_clock_that_was_replaced_leaves_no_verdict(step_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As tests do, to freeze the time: no stall takes any then."""
    reports = []

    async def main() -> None:
        async with LoopMonitor() as monitor:
            time.sleep(0.06)
            reports.append(monitor.report())
        reports.append(monitor.report())

    true = itertools.count(time.perf_counter_ns(), step_ns)
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter_ns", lambda: next(true))
        patch.setattr("asyncload_lib.eventloop.heartbeat.perf_counter_ns", lambda: next(true))
        asyncio.run(main())

    assert [report["blocked"] for report in reports] == [None, None]
    assert all("The clock failed: by `time.perf_counter_ns`, " in report["note"] for report in reports)


def test_a_stall_that_comes_while_a_report_is_written_is_one_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Findings.report

    def slow(findings: Findings, *arguments: Any) -> dict[str, Any]:
        report = written(findings, *arguments)
        monitor._pulse.late.append(Late(0, 1, 0, 0, 0))
        return report

    async def main() -> tuple[bool | None, bool]:
        async with monitor:
            await calm()
            with monkeypatch.context() as patch:
                patch.setattr(Findings, "report", slow)
                return monitor.report()["blocked"], bool(monitor._pulse.late)

    monitor = LoopMonitor()
    assert asyncio.run(main()) == (False, True)


def test_without_the_gil_nothing_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)

    async def main() -> LoopMonitor:
        monitor = LoopMonitor()
        with pytest.raises(RuntimeError, match="cannot be watched without the GIL"):
            monitor.start()
        return monitor

    assert asyncio.run(main()).report()["blocked"] is None


def test_nobody_waits_for_a_watchdog_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Watchdog, *_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(Watchdog, "_look", broken)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    async def main() -> float:
        async with LoopMonitor() as monitor:
            await calm()
            time.sleep(0.05)
            await calm()  # what was late is there to be judged, and nobody is
            assert monitor._pulse.late
            begun_s = time.perf_counter()
            monitor.report()
            return time.perf_counter() - begun_s

    assert asyncio.run(main()) < 0.5


@pytest.mark.parametrize(
    ("rival", "usual_s", "interval_s"),
    [
        ("idle", 0.005, HURRY_S),
        ("met", 0.005, 0.0038),  # it kept the GIL before: a look at 8 ms, another at 10
        ("busy", 0.005, 0.005),
        ("busy", 0.0625, 0.005),  # half the limit at most: else a C call that keeps the GIL ends unseen
    ],
)
def test_the_gil_is_asked_for_soon_only_where_nobody_else_wants_it_and_only_while_watched(
    rival: str, usual_s: float, interval_s: float
) -> None:
    before, ended = sys.getswitchinterval(), threading.Event()
    sys.setswitchinterval(usual_s)
    started = threading.Event()

    def burn() -> None:
        started.wait()
        if rival == "met":
            hold_the_gil(22)
        while rival == "busy" and not ended.is_set():
            cpu(0.001)
        ended.wait()

    async def main() -> tuple[float, int]:
        async with LoopMonitor() as monitor:
            await calm()
            started.set()
            watchdog = monitor._watchdog
            assert watchdog is not None
            lately: deque[float] = deque(maxlen=200)
            end = time.monotonic() + 10  # a baseline of the threads' CPU time is taken each second, or more often
            while time.monotonic() < end and (len(lately) < 200 or max(lately) != pytest.approx(interval_s)):
                cpu(0.002)
                await asyncio.sleep(0.0002)  # the watchdog must be let in
                lately.append(sys.getswitchinterval())
            return max(lately), watchdog.patience_ns  # while a beat is overdue it is shorter

    thread = threading.Thread(target=burn)
    thread.start()
    try:
        found_s, patience_ns = asyncio.run(main())
        deadline = time.monotonic() + 5
        while sys.getswitchinterval() != usual_s and time.monotonic() < deadline:
            time.sleep(0.001)  # the watchdog ends by itself
        after = sys.getswitchinterval()
    finally:
        sys.setswitchinterval(before)
        ended.set()
        thread.join()

    assert found_s == pytest.approx(interval_s)
    assert patience_ns < 5_000_000
    assert after == usual_s


@pytest.mark.parametrize(("callbacks", "wanted"), [(1, False), (40, True)])
def test_signs_of_life_are_wanted_where_turns_of_the_loop_are_long(callbacks: int, wanted: bool) -> None:
    async def main() -> tuple[bool, set[bool]]:
        loop = asyncio.get_running_loop()
        monitor = LoopMonitor()
        before, after = monitor.pulse.wants_signs, set[bool]()
        deadline = time.monotonic() + 20
        async with monitor:
            for _ in range(10):  # a busy machine makes a turn long now and then
                while monitor.pulse.wants_signs and time.monotonic() < deadline:
                    await asyncio.sleep(0.01)
                end = time.monotonic() + 0.5
                while time.monotonic() < end:
                    for _ in range(callbacks):
                        loop.call_soon(cpu, 0.0003)
                    await asyncio.sleep(0)
                after.add(monitor.pulse.wants_signs)
                if wanted in after:
                    break
        return before, after

    before, after = asyncio.run(main())
    assert before
    assert wanted in after


def test_misuse_is_told() -> None:
    with pytest.raises(ValueError, match="period_s is 1"):
        LoopMonitor(period_s=1.0)
    with pytest.raises(ValueError, match=r"limit_s is 0\.004"):
        LoopMonitor(limit_s=0.004)
    with pytest.raises(ValueError, match="limit_s is nan"):
        LoopMonitor(limit_s=float("nan"))
    with pytest.raises(TypeError, match="limit_s is None: it must be a number of seconds"):
        LoopMonitor(limit_s=None)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no running event loop"):
        LoopMonitor().start()

    async def twice() -> None:
        async with LoopMonitor("x") as monitor:
            monitor.start()

    with pytest.raises(RuntimeError, match="'x' is running already"):
        asyncio.run(twice())
    assert LoopMonitor().report()["blocked"] is None


def test_the_hub_and_a_loop_beside_it_under_the_patch() -> None:
    """In a process of its own, for gevent replaces everything there."""
    script = Path(__file__).with_name("patched_process.py")

    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)

    assert done.stderr == ""
    hub, loop = json.loads(done.stdout)
    assert hub["name"] == "generator hub"
    assert stalls(hub)["loop"] >= 1
    assert {culprit["call"] for culprit in hub["culprits"] if culprit["cause"] == "loop"} == {"real_sleep(0.2)"}
    assert [culprit["call"] for culprit in loop["culprits"] if culprit["cause"] == "loop"] == ["real_sleep(0.25)"]


def test_a_hub_that_is_watched_anew_has_one_heartbeat() -> None:
    started: list[Callable[[], None]] = []
    slept = 0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        if slept == 1:
            monitor.stop()
            monitor.start()
        elif slept == 5:
            monitor.stop()

    monitor = HubMonitor(started.append, sleep)
    monitor.start()
    started[0]()
    assert (len(started), slept, monitor.running) == (2, 1, True)
    started[1]()
    assert (slept, monitor.running) == (5, False)


def test_a_hubs_heartbeat_that_failed_leaves_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Findings, *_: object) -> None:
        raise RuntimeError("broken on purpose")

    slept = 0

    def sleep(seconds: float) -> None:
        nonlocal slept
        slept += 1
        if slept == 3:
            reports.append(monitor.report())
            monitor.stop()

    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(Findings, "lag", broken)
    started: list[Callable[[], None]] = []
    monitor = HubMonitor(started.append, sleep)
    monitor.start()
    monkeypatch.setattr(HubMonitor, "_measure_last", lambda self: None)
    started[0]()
    assert [report["blocked"] for report in reports] == [None]
    assert "broken on purpose" in reports[0]["note"]


def test_a_thread_that_ends_under_watch_in_a_process_with_greenlets() -> None:
    """Where `gc.freeze` hid from the library greenlet who refers to what, a watchdog that looks on would crash."""
    script = """
        import asyncio, gc, threading, time
        import greenlet
        from asyncload_lib.eventloop.lag import LoopMonitor

        async def main():
            monitor.start()  # and nobody stops it
            await asyncio.sleep(0.02)
            gc.freeze()

        monitor = LoopMonitor()
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        thread.join()
        while monitor._watchdog._alarm._file >= 0:  # it ends by itself: its loop is closed
            greenlet.getcurrent()  # frees what is left of threads that have ended
            time.sleep(0.001)
        print(monitor.report()["name"])
    """

    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])

    assert (done.returncode, done.stderr, done.stdout) == (0, "", "loop\n")


@pytest.mark.parametrize(
    ("wakes", "gil_wait_ms", "interval_ms", "suspended"),
    [
        (1, 150, 5, True),
        (4, 150, 1.3, True),
        (30, 150, 5, False),
        (115, 150, 1.3, False),
        (1, 30, 5, False),
        (0, 150, 5, False),
    ],
)
def test_who_waits_for_the_gil_wakes_and_who_is_stopped_does_not(
    wakes: int, gil_wait_ms: float, interval_ms: float, suspended: bool
) -> None:
    assert is_suspended(wakes, int(gil_wait_ms * 1e6), interval_ms / 1e3) is suspended


STOPPED = """
import asyncio, json, sys
from asyncload_lib.eventloop.lag import LoopMonitor
async def main():
    async with LoopMonitor() as monitor:
        await asyncio.sleep(0.2)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print(json.dumps(monitor.report()))
asyncio.run(main())
"""


def test_a_process_that_is_stopped_is_the_machine_and_no_holder_of_the_gil() -> None:
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(3):
            time.sleep(0.1)
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.3)
            process.send_signal(signal.SIGCONT)
        time.sleep(0.1)
        report = json.loads(process.communicate("\n", timeout=30)[0])
    assert report["by_cause"]["machine"]["stalls"] >= 3
    assert report["by_cause"]["gil"]["stalls"] == 0
    assert report["blocked"] is False
