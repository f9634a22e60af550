"""However reports travel, what the workers measured together is what one process would have measured."""

import copy
import random
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncload_lib.results.merge import Store
from asyncload_lib.results.phase import MOST_NAMES, PhaseResult, Tally
from asyncload_lib.results.recorder import Recorder
from asyncload_lib.results.text import OTHER

SECOND = 1_000_000_000
START = 50 * SECOND

requests = st.tuples(
    st.just("add"),
    st.sampled_from(["/a", "/b", "/c"]),
    st.one_of(st.floats(0.0, 4e6), st.sampled_from([None, float("nan"), -1.0, 0.0])),
    st.sampled_from([None, None, "HTTP 503", "timed out after 31 s"]),
)
operations = st.one_of(
    requests,
    requests,
    st.tuples(st.just("metric"), st.sampled_from(["ttft", "lag"]), st.floats(0, 1e6)),
    st.tuples(st.just("started"), st.integers(1, 9)),
    st.tuples(st.just("abandoned"), st.sampled_from(["/a", "/b"]), st.floats(0, 1e6)),
    st.tuples(st.just("begin"), st.sampled_from(["chat/few", "chat/burst"])),
    st.tuples(st.just("end")),
    st.tuples(st.just("report")),
)
pauses_s = st.one_of(st.just(0.0), st.floats(0, 3), st.floats(0, 400))
steps = st.lists(st.tuples(st.integers(0, 3), pauses_s, operations), max_size=25)


def state_of(tally: Tally) -> tuple[Any, ...]:
    h = tally.histogram
    return tally.invalid, h.count, h.sum_ns, h.min_us, h.max_us, h.counts.tobytes()


def state(phases: dict[str, PhaseResult]) -> dict[str, Any]:
    return {
        name: {
            "head": phase.head(0),
            "endpoints": {key: (state_of(e.ok), state_of(e.failed)) for key, e in phase.endpoints.items()},
            "errors": phase.errors,
            "metrics": {key: state_of(tally) for key, tally in phase.metrics.items()},
            "abandoned": {key: state_of(tally) for key, tally in phase.abandoned.items()},
            "series": (phase.series.width_s, phase.series.used, phase.series.ok.tobytes()),
            "series_failed": phase.series.failed.tobytes(),
            "series_latency": phase.series.latency.tobytes(),
        }
        for name, phase in phases.items()
    }


class Fleet:
    """Recorders of a few workers beside one that sees everything, and the messages the workers send."""

    def __init__(self, workers: int) -> None:
        self.now_ns = START
        self.single = Recorder("run", clock_ns=self.clock)
        self.workers = [Recorder("run", clock_ns=self.clock) for _ in range(workers)]
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.begin("chat/few")

    def clock(self) -> int:
        return self.now_ns

    def begin(self, phase: str) -> None:
        for worker in self.workers:
            worker.begin(phase, users=5)
        self.single.begin(phase, users=5 * len(self.workers))

    def step(self, worker: int, operation: tuple[Any, ...]) -> None:
        kind, *arguments = operation
        if kind == "begin":
            self.begin(*arguments)
        elif kind == "end":
            for recorder in (self.single, *self.workers):
                recorder.end()
        elif kind == "report":
            self.report(worker, changes_only=True)
        else:
            for recorder in (self.single, self.workers[worker]):
                self._record(recorder, kind, arguments)

    def report(self, worker: int, *, changes_only: bool = False) -> None:
        parts = self.workers[worker].snapshot_parts(max_bytes=700, changes_only=changes_only)
        self.messages += [(f"worker-{worker}", msgpack.unpackb(msgpack.packb(part))) for part in parts]

    def _record(self, recorder: Recorder, kind: str, arguments: list[Any]) -> None:
        if kind == "add":
            name, latency_ms, error = arguments
            recorder.tick(self.now_ns)
            recorder.add("POST", name, latency_ms, error)
        elif kind == "metric":
            name, value_us = arguments
            recorder.add_metric(name, value_us, "/a")
        elif kind == "started":
            recorder.add_started(*arguments)
        else:
            recorder.add_abandoned("POST", *arguments)


def travel(messages: list[tuple[str, Any]], final: list[tuple[str, Any]], chance: random.Random) -> list[Any]:
    """Lose, double and reorder messages; the final ones arrive at least once, at any place."""
    arrived = [message for message in messages for _ in range(chance.choice([0, 1, 1, 2]))]
    arrived += [message for message in final for _ in range(chance.choice([1, 1, 2]))]
    chance.shuffle(arrived)
    return arrived


@given(st.integers(1, 4), steps, st.integers(0, 2**32))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_merged_workers_equal_one_process(workers: int, script: list[Any], seed: int) -> None:
    fleet, chance = Fleet(workers), random.Random(seed)
    stranger = Recorder("another run", clock_ns=fleet.clock)
    stranger.add("POST", "/a", 1.0, "stranger")
    strange = [(f"worker-{i}", part) for i in range(workers) for part in stranger.snapshot_parts()]
    for worker, pause_s, operation in script:
        fleet.now_ns += int(pause_s * SECOND)
        fleet.step(worker % workers, operation)
    early, fleet.messages = fleet.messages, []
    for worker in range(workers):
        fleet.report(worker)
    store = Store("run")
    for worker_id, part in travel(early + strange, fleet.messages, chance):
        before = copy.deepcopy(part)
        assert store.accept(worker_id, part) is (part["run_id"] == "run")
        assert part == before
    expected = state(fleet.single.results())
    assert state(store.merged()) == expected
    assert state(store.merged()) == expected, "merging twice must not count twice"
    assert store.rejected == {}


def test_only_what_can_still_change_is_repeated() -> None:
    now_ns = START
    recorder = Recorder("run", clock_ns=lambda: now_ns)
    store, always = Store("run"), Store("run")
    sizes = []
    for phase in ("chat/few", "chat/burst"):
        recorder.begin(phase)
        for _ in range(200):
            now_ns += SECOND
            recorder.tick(now_ns)
            recorder.add("GET", "/", 5.0, None)
            for part in recorder.snapshot_parts(changes_only=True):
                sizes.append(len(msgpack.packb(part)))
                store.accept("w", part)
    always.accept("w", recorder.snapshot())
    assert state(store.merged()) == state(always.merged())
    assert max(sizes[-20:]) < len(msgpack.packb(recorder.snapshot())) / 3


def reported(change: Callable[[dict[str, Any]], Any]) -> Any:
    recorder = Recorder("run")
    recorder.begin("chat/burst")
    recorder.add("GET", "/", 1.0, "no")
    recorder.add_metric("lag", 1.0)
    recorder.add_abandoned("GET", "/", 1.0)
    part = recorder.snapshot()
    answer = change(part)
    return part if answer is None else answer


def burst(part: dict[str, Any]) -> dict[str, Any]:
    phase: dict[str, Any] = part["phases"]["chat/burst"]
    return phase


MALFORMED: list[Callable[[dict[str, Any]], Any]] = [
    lambda part: part.update(schema=99),
    lambda part: part.pop("schema") and None,
    lambda part: part.update(seq="x"),
    lambda part: part.update(phases=[1]),
    lambda part: burst(part).pop("users") and None,
    lambda part: burst(part).update(started=None),
    lambda part: burst(part).update(endpoints=[["GET"]]),
    lambda part: burst(part)["endpoints"][0][2].update(counts="text"),
    lambda part: burst(part)["endpoints"][0].append(1),
    lambda part: burst(part)["metrics"][0].append(1),
    lambda part: burst(part)["abandoned"][0].append(1),
    lambda part: burst(part)["series"][0].append(1),
    lambda part: burst(part)["endpoints"].append([["GET"], "/", *burst(part)["endpoints"][0][2:]]),
    lambda part: burst(part).update(errors=[["GET", "/", "no", "many"]]),
    lambda part: burst(part).update(metrics=5),
    lambda part: burst(part)["series"][0].__setitem__(1, 299_999),
    lambda part: burst(part)["series"][0].__setitem__(0, 0),
    lambda part: "text",
    lambda part: 5,
    lambda part: {},
]


@pytest.mark.parametrize("change", MALFORMED)
def test_malformed_reports_are_named_and_leave_nothing(change: Callable[[dict[str, Any]], Any]) -> None:
    store = Store("run")
    assert store.accept("bad", reported(change)) is False
    assert store.accept("good", reported(lambda part: None)) is True
    assert list(store.rejected) == ["bad"]
    assert list(store.workers()) == ["good"]
    assert store.merged()["chat/burst"].failed_count == 1


UNREADABLE: list[Callable[[dict[str, Any]], Any]] = [
    lambda part: burst(part)["endpoints"][0][2].update(counts=b"junk"),
    lambda part: burst(part)["endpoints"][0][3].update(max_us=1e12),
    lambda part: burst(part)["metrics"][0][2].update(sum_ns=None),
    lambda part: burst(part)["series"][0].__setitem__(4, b""),
    lambda part: burst(part)["series"][0].__setitem__(2, ["x"]),
]


@pytest.mark.parametrize("change", UNREADABLE)
def test_what_cannot_be_read_when_it_is_needed_is_left_out_and_named(change: Callable[[dict[str, Any]], Any]) -> None:
    store = Store("run")
    store.accept("bad", reported(change))
    store.accept("good", reported(lambda part: None))
    merged = store.merged()["chat/burst"]
    assert list(store.rejected) == ["bad"]
    assert merged.failed_count in (1, 2)
    assert store.workers()["good"]["operations"] == 1
    store.accept("bad", reported(lambda part: part.update(seq=2)))
    assert store.merged()["chat/burst"].failed_count == 2, "a good report makes up for a bad one"


def test_worker_totals_leave_the_baseline_out_and_what_warms_it_up() -> None:
    now_ns = START
    recorder = Recorder("run", clock_ns=lambda: now_ns)
    for phase, latency_ms in (("chat/burst", 100.0), ("chat/baseline_warm_up", 900.0), ("chat/baseline", 5_000.0)):
        recorder.begin(phase, t0_ns=START)
        recorder.tick(START + 2 * SECOND)
        for _ in range(10):
            recorder.add("GET", "/", latency_ms, None)
    store = Store("run")
    store.accept("w1", recorder.snapshot())
    totals = store.workers()["w1"]
    assert (totals["operations"], totals["requests_per_second"], totals["seq"]) == (10, 5.0, 1)
    assert totals["p95_latency"] == pytest.approx(0.1, rel=0.001)


def test_a_lost_worker_keeps_what_it_had_sent() -> None:
    store = Store("run")
    lost, alive = Recorder("run"), Recorder("run")
    lost.add("GET", "/", 1.0, None)
    store.accept("lost", lost.snapshot())
    lost.add("GET", "/", 1.0, None)
    alive.add("GET", "/", 1.0, None)
    store.accept("alive", alive.snapshot())
    assert store.merged()["run"].ok_count == 2
    assert {worker: totals["operations"] for worker, totals in store.workers().items()} == {"lost": 1, "alive": 1}


@pytest.mark.parametrize(
    ("joins_s", "delay_s", "seconds"),
    [
        (20, 0, [1] * 20 + [2] * 10),
        (0, 2, [2] * 10 + [1] * 20),  # its reports were long underway
        (40, 0, [2] * 10 + [1] * 20),  # the phase is over: it has one of its own
    ],
)
def test_a_worker_that_joins_late_stands_where_it_joined(joins_s: int, delay_s: int, seconds: list[int]) -> None:
    now_ns = [0]
    store = Store("run", clock_ns=lambda: now_ns[0])
    for worker, begins_s, lasts_s, underway_s in (("first", 0, 30, 0), ("late", joins_s, 10, delay_s)):
        recorder = Recorder("run", clock_ns=lambda: now_ns[0])
        now_ns[0] = begins_s * SECOND
        recorder.begin("run")
        for _ in range(lasts_s):
            now_ns[0] += SECOND // 2
            recorder.on_request("GET", "/", 5.0)
            now_ns[0] += SECOND // 2
            (part,) = recorder.snapshot_parts()
            now_ns[0] += underway_s * SECOND
            assert store.accept(worker, part)
            now_ns[0] -= underway_s * SECOND
    (phase,) = store.merged().values()
    assert [ok for _, ok, _, _ in phase.series.rows()] == seconds


def test_names_that_differ_from_worker_to_worker_are_counted_together_beyond_the_cap() -> None:
    """Ids in names: each worker stays under the cap, and a hundred of them must not fill the master's memory."""
    store = Store("run", clock_ns=lambda: START)
    for worker in range(4):
        recorder = Recorder("run", clock_ns=lambda: START)
        recorder.begin("run", users=1)
        recorder.add_started(MOST_NAMES)
        for item in range(MOST_NAMES // 2):
            name = f"/items/{worker}-{item}"
            recorder.tick(START)
            recorder.add("GET", name, 1.0, None)
            recorder.add("GET", name, 2.0, "HTTP 503")
            recorder.add_metric("ttft", 5.0, name)
            recorder.add_abandoned("GET", name, 5.0)
        assert store.accept(f"worker-{worker}", msgpack.unpackb(msgpack.packb(recorder.snapshot())))
    phase = store.merged()["run"]
    assert len(phase.endpoints) == MOST_NAMES + 1
    assert len(phase.abandoned) == len(phase.metrics) == MOST_NAMES + 1
    assert len(phase.errors) <= MOST_NAMES + 1
    assert phase.ok_count == phase.failed_count == sum(phase.errors.values()) == 2 * MOST_NAMES
    assert phase.metric("ttft").count == 2 * MOST_NAMES
    assert phase.endpoints[OTHER, OTHER].ok.count == MOST_NAMES
