"""What is counted, where, and that neither bad input nor ten million requests can upset it."""

import math
import tracemalloc
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncload_lib.results import phase as results_phase
from asyncload_lib.results.buckets import HIGHEST_US
from asyncload_lib.results.merge import Store
from asyncload_lib.results.phase import MOST_NAMES, PhaseResult
from asyncload_lib.results.recorder import Recorder

SECOND = 1_000_000_000
PLAIN = {dict, list, str, bytes, int, float, bool, type(None)}


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.ns = 1_000 * SECOND

    def __call__(self) -> int:
        return self.ns


def recorder_at() -> tuple[Recorder, Clock]:
    clock = Clock()
    return Recorder("run-1", clock_ns=clock), clock


def only_phase(recorder: Recorder) -> PhaseResult:
    (phase,) = recorder.results().values()
    return phase


def assert_plain(value: Any) -> None:
    assert type(value) in PLAIN, f"{type(value)} would not survive msgpack"
    if isinstance(value, dict):
        for key, item in value.items():
            assert type(key) is str
            assert_plain(item)
    elif isinstance(value, list):
        for item in value:
            assert_plain(item)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["/a", "/b", "/c", "/d", None]),
        st.one_of(st.floats(0, 1e4), st.sampled_from([None, -1.0, math.nan, "5"])),
        st.sampled_from([None, None, "refused", ValueError("no")]),
        st.integers(-1_500_000_000, 2_500_000_000),
    ),
    max_size=60,
)


@given(events=EVENTS)
def test_an_event_is_a_tick_and_an_answer(events: list[tuple[Any, ...]]) -> None:
    (whole, _), (parts, _) = recorder_at(), recorder_at()
    for recorder in (whole, parts):
        recorder.begin("run")
    now_ns = 1_000 * SECOND
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results_phase, "MOST_NAMES", 3)
        for name, latency_ms, exception, later_ns in events:
            now_ns += later_ns
            given = {"exception": exception, "response_length": 10, "context": {}, "url": None, "of_a_plugin": 1}
            whole.on_request("GET", name, latency_ms, **given, ended_ns=now_ns)
            parts.tick(now_ns)
            parts.add("GET", name, latency_ms, exception)
    assert whole.snapshot() == parts.snapshot()


def test_a_request_without_a_clock_ends_now_and_was_started() -> None:
    recorder, clock = recorder_at()
    recorder.begin("run")
    clock.ns += 3 * SECOND
    recorder.on_request("GET", "/", 5.0, 10, None)
    phase = only_phase(recorder)
    assert (phase.started, phase.ok_count, phase.total_time_s) == (1, 1, 3.0)


def test_ok_and_failed_apart() -> None:
    recorder, _ = recorder_at()
    recorder.begin("chat/burst", 50)
    for latency_ms in (10.0, 20.0, 30.0):
        recorder.add("POST", "/api/chat", latency_ms, None)
    recorder.add("POST", "/api/chat", 5_000.0, TimeoutError("too late"))
    phase = only_phase(recorder)
    assert only_phase(recorder) is phase, "asking twice must not count twice"
    assert (phase.ok_count, phase.failed_count, phase.users) == (3, 1, 50)
    assert phase.ok.max_us == 30_000.0
    assert phase.failed.min_us == 5_000_000.0
    assert phase.errors == {("POST", "/api/chat", "TimeoutError: too late"): 1}


BAD = [None, float("nan"), float("inf"), float("-inf"), -1.0, -1e-9, "12", b"12", [1.0], object(), 1e308, 10**400]


@pytest.mark.parametrize("latency_ms", [*BAD, HIGHEST_US / 1000 * 1.001])
@pytest.mark.parametrize("exception", [None, "broken"])
def test_what_is_no_latency_is_counted_and_not_binned(latency_ms: Any, exception: Any) -> None:
    recorder, _ = recorder_at()
    recorder.add("GET", "/", 5.0, exception)
    recorder.add("GET", "/", latency_ms, exception)
    phase = only_phase(recorder)
    assert phase.ok_count + phase.failed_count == 2
    assert phase.failed_count == (0 if exception is None else 2)
    assert phase.invalid_count == 1
    binned = phase.ok if exception is None else phase.failed
    assert (binned.count, binned.max_us) == (1, 5_000.0)
    assert (sum(phase.series.ok), sum(phase.series.failed)) == (phase.ok_count, phase.failed_count)
    assert_plain(recorder.snapshot())


@given(st.lists(st.tuples(st.sampled_from(["/a", "/b"]), st.one_of(st.floats(), st.sampled_from(BAD)), st.booleans())))
@settings(max_examples=200, deadline=None)
def test_totals_are_the_sums_of_the_endpoints(requests: list[tuple[str, Any, bool]]) -> None:
    recorder, _ = recorder_at()
    recorder.begin("run")
    for name, latency_ms, ok in requests:
        recorder.add("GET", name, latency_ms, None if ok else "no")
    phase = only_phase(recorder)
    assert phase.ok_count + phase.failed_count == len(requests)
    assert phase.ok_count == sum(ok for *_, ok in requests)
    assert phase.ok.count + phase.failed.count + phase.invalid_count == len(requests)
    assert sum(phase.errors.values()) == phase.failed_count
    for name in ("/a", "/b"):
        wanted = sum(request == name for request, *_ in requests)
        endpoint = phase.endpoints.get(("GET", name))
        assert (endpoint.ok.count + endpoint.failed.count if endpoint else 0) == wanted


def test_quantiles_are_those_of_the_raw_samples() -> None:
    recorder, _ = recorder_at()
    latencies_ms = np.random.default_rng(3).lognormal(3, 1, 50_000)
    for latency_ms in latencies_ms.tolist():
        recorder.add("GET", "/", latency_ms, None)
    ok = only_phase(recorder).ok
    for q in (0.5, 0.95, 0.99, 0.999):
        assert ok.quantile(q) == pytest.approx(np.quantile(latencies_ms, q) * 1000, rel=0.001)


def test_phase_time_runs_from_the_intended_start_to_the_last_answer() -> None:
    recorder, clock = recorder_at()
    start = clock.ns - 3 * SECOND
    recorder.begin("chat/burst", 50, t0_ns=start)
    recorder.tick(start + 1 * SECOND)
    recorder.add("GET", "/", 1.0, None)
    recorder.tick(start + 5 * SECOND // 2)
    recorder.add("GET", "/", 1.0, None)
    recorder.tick(start + 9 * SECOND // 4)
    recorder.add("GET", "/", 1.0, None)
    recorder.end()
    clock.ns += 60 * SECOND
    assert only_phase(recorder).total_time_s == 2.5
    recorder.tick(start + 9 * SECOND)
    recorder.add("GET", "/", 1.0, None)
    phase = only_phase(recorder)
    assert (phase.ok_count, phase.total_time_s) == (4, 2.5)


def test_a_phase_lasts_as_long_as_its_users_waited_for_what_had_no_answer() -> None:
    recorder, clock = recorder_at()
    recorder.begin("run", 2)
    recorder.tick(clock.ns + SECOND)
    recorder.add("GET", "/", 1.0, None)
    clock.ns += 5 * SECOND
    recorder.add_abandoned("GET", "/", 4e6)
    assert only_phase(recorder).total_time_s == 5.0
    clock.ns += 15 * SECOND
    recorder.stopping()
    clock.ns += 10 * SECOND  # in which nothing is begun
    recorder.add_abandoned("GET", "/", 29e6)
    assert only_phase(recorder).total_time_s == 20.0
    recorder.begin("next")
    recorder.tick(clock.ns + SECOND)
    recorder.add("GET", "/", 1.0, None)
    clock.ns += 3 * SECOND
    recorder.add_abandoned("GET", "/", 2e6)
    assert recorder.results()["next"].total_time_s == 3.0


def test_phase_without_an_answer_has_no_time() -> None:
    recorder, clock = recorder_at()
    recorder.begin("chat/burst")
    clock.ns += SECOND
    recorder.add_started()
    recorder.add_metric("send_delay", 5.0)
    recorder.add_abandoned("GET", "/", 1e6)
    assert only_phase(recorder).total_time_s is None


def test_without_ticks_the_clock_tells_the_moment() -> None:
    recorder, clock = recorder_at()
    recorder.begin("run")
    clock.ns += 4 * SECOND
    recorder.add("GET", "/", 1.0, None)
    assert only_phase(recorder).total_time_s == 4.0


def test_samples_belong_to_the_second_of_their_batch() -> None:
    recorder, clock = recorder_at()
    recorder.begin("run")
    for at_s, latencies_ms in ((0.9, [1.0, 1.0]), (1.1, [2.0]), (1.9, [3.0]), (3.0, [4.0])):
        recorder.tick(clock.ns + int(at_s * SECOND))
        for latency_ms in latencies_ms:
            recorder.add("GET", "/", latency_ms, None)
    rows = list(only_phase(recorder).series.rows())
    assert [(t, ok) for t, ok, _, _ in rows] == [(0, 2), (1, 2), (2, 0), (3, 1)]
    assert rows[2][3] is None
    assert rows[3][3] == pytest.approx([4_000.0] * 3, rel=0.016)


def test_phases_keep_their_samples_apart_and_can_be_resumed() -> None:
    recorder, _ = recorder_at()
    recorder.begin("redis/few", 5)
    recorder.add("REDIS", "get", 1.0, None)
    recorder.begin("redis/burst", 100)
    recorder.add("REDIS", "get", 2.0, None)
    recorder.snapshot()  # what has ended is encoded once, and must be encoded again after it went on
    recorder.begin("redis/few", 5)
    recorder.add("REDIS", "get", 3.0, None)
    phases = recorder.results()
    assert {name: phase.ok_count for name, phase in phases.items()} == {"redis/few": 2, "redis/burst": 1}
    assert phases["redis/few"].ok.max_us == 3_000.0
    recorder.begin("redis/baseline")
    store = Store("run-1")
    for _ in range(2):
        assert store.accept("w", recorder.snapshot())
        reported = {name: phase.ok_count for name, phase in store.merged().items()}
        assert reported == {"redis/few": 2, "redis/burst": 1, "redis/baseline": 0}


def test_a_metric_of_a_request_is_not_a_request() -> None:
    recorder, _ = recorder_at()
    recorder.add("POST", "/stream", 100.0, None)
    for value_us in (10.0, 20.0, float("nan")):
        recorder.add_metric("time_to_first_token", value_us, "/stream")
    phase = only_phase(recorder)
    assert phase.ok_count + phase.failed_count == 1
    assert phase.invalid_count == 0
    assert phase.metrics["time_to_first_token", "/stream"].count == 3
    assert phase.metrics["time_to_first_token", "/stream"].invalid == 1
    assert phase.metric("time_to_first_token").max_us == 20.0


def test_started_is_ok_failed_and_abandoned() -> None:
    recorder, _ = recorder_at()
    recorder.begin("run")
    recorder.add_started(3)
    recorder.add_started()
    recorder.add("GET", "/", 1.0, None)
    recorder.add("GET", "/", 1.0, "no")
    recorder.add_abandoned("GET", "/", 2_000_000.0)
    recorder.add_abandoned("GET", "/slow", float("nan"))
    phase = only_phase(recorder)
    assert phase.started == 4 == phase.ok_count + phase.failed_count + phase.abandoned_count
    assert phase.abandoned_max_age_s == 2.0


def test_caps_hold_and_sums_stay_exact() -> None:
    recorder, _ = recorder_at()
    recorder.begin("run")
    for i in range(5_000):
        letters = "".join(chr(97 + i // 26**place % 26) for place in range(4))
        recorder.add("GET", f"/{letters}", 1.0, None if i % 5 else RuntimeError(f"broke at {letters}"))
        recorder.add_metric(letters, 1.0)
        recorder.add_abandoned("GET", letters, 1.0)
    phase = only_phase(recorder)
    assert phase.ok_count + phase.failed_count == 5_000
    assert phase.failed_count == sum(phase.errors.values()) == 1_000
    assert phase.abandoned_count == 5_000
    assert sum(tally.count for tally in phase.metrics.values()) == 5_000
    assert len(phase.endpoints) <= MOST_NAMES + 1
    assert len(phase.abandoned) <= MOST_NAMES + 1
    assert len(phase.errors) <= MOST_NAMES + len(phase.endpoints)
    assert len(phase.metrics) <= 2 * (MOST_NAMES + 1)
    assert phase.endpoints["other", "other"].ok.count > 3_000


def test_a_metric_of_too_many_requests_is_still_that_metric() -> None:
    recorder, _ = recorder_at()
    recorder.begin("run")
    for i in range(5 * MOST_NAMES):
        recorder.add_metric("time_to_first_token", 1_000.0, f"/{i}")
        recorder.add_metric("inter_token_latency", 50.0, f"/{i}")
    metrics = only_phase(recorder).metrics
    for metric in ("time_to_first_token", "inter_token_latency"):
        assert sum(tally.count for (name, _), tally in metrics.items() if name == metric) == 5 * MOST_NAMES
        assert metrics[metric, "other"].count == 4.5 * MOST_NAMES


@pytest.mark.parametrize("name", [None, 5, "x" * 10_000, "lone \ud800 surrogate", "NUL \0 <b>", ["unhashable"]])
def test_any_name_is_counted_and_packs(name: Any) -> None:
    recorder, _ = recorder_at()
    for _ in range(3):
        recorder.add(name, name, 1.0, f"{name}")
        recorder.add_metric(name, 1.0, name)
    assert only_phase(recorder).failed_count == 3
    assert len(only_phase(recorder).endpoints) == len(only_phase(recorder).errors) == 1
    for part in recorder.snapshot_parts():
        assert_plain(part)
        msgpack.packb(part)


def test_parts_are_small_and_plain() -> None:
    recorder, clock = recorder_at()
    rng = np.random.default_rng(5)
    recorder.begin("run", 50)
    for second in range(600):
        recorder.tick(clock.ns + second * SECOND)
        for latency_ms in np.exp(rng.uniform(math.log(1e-3), math.log(3.6e6), 200)).tolist():
            failure = (
                RuntimeError("x" * 180 + chr(97 + second % 26) * 9 + chr(97 + second // 26 % 10))
                if second % 3
                else None
            )
            recorder.add("POST", f"/api/{int(latency_ms * 1e6) % 20}", latency_ms, failure)
    phase = only_phase(recorder)
    assert len(phase.endpoints) == 20
    assert len(phase.errors) >= 200
    parts = recorder.snapshot_parts()
    assert max(len(msgpack.packb(part)) for part in parts) <= 64 * 1024
    assert len(parts) > 1
    for part in parts:
        assert_plain(part)
        assert set(part) == {"schema", "run_id", "seq", "phases"}
    store = Store("run-1")
    assert all(store.accept("w", msgpack.unpackb(msgpack.packb(part))) for part in parts)
    assert store.merged()["run"].ok_count == phase.ok_count


def test_memory_does_not_grow_with_requests() -> None:
    endpoints = [("GET", f"/{i}") for i in range(50)]
    latencies_ms = np.random.default_rng(2).lognormal(2, 1, 997).tolist()

    def load(first: int, requests: int) -> int:
        for i in range(first, first + requests):
            if i % 500 == 0:
                recorder.tick(clock.ns + i * 1_000_000)
            recorder.add(*endpoints[i % 50], latencies_ms[i % 997], None if i % 10 else "no")
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        recorder, clock = recorder_at()
        recorder.begin("run")
        early = load(0, 30_000)
        late = load(30_000, 150_000)
    finally:
        tracemalloc.stop()
    assert late - early < 500_000


@pytest.mark.parametrize("kind", ["ok", "failed", "metric"])
def test_buffers_are_bounded_without_ticks_and_snapshots(kind: str) -> None:
    recorder, _ = recorder_at()

    def load(samples: int) -> int:
        for _ in range(samples):
            if kind == "metric":
                recorder.add_metric("lag", 1.0)
            else:
                recorder.add("GET", "/", 1.0, None if kind == "ok" else "no")
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early = load(10_000)
        late = load(50_000)
    finally:
        tracemalloc.stop()
    assert late - early < 100_000  # unbounded, 400,000
    phase = only_phase(recorder)
    assert phase.ok_count + phase.failed_count + phase.metric("lag").count == 60_000


def test_what_is_in_flight_when_a_phase_goes_over_into_the_next_belongs_to_the_next() -> None:
    recorder, _ = recorder_at()
    recorder.begin("ramp", 4)
    recorder.add_started(4)
    recorder.add("GET", "/", 1.0, None)
    recorder.add("GET", "/", 1.0, "no")
    recorder.go_on("run", 5)
    recorder.add_started(1)
    for _ in range(2):
        recorder.add("GET", "/", 1.0, None)
    recorder.add_abandoned("GET", "/", 1.0)
    ramp, run = recorder.results().values()
    assert (ramp.name, ramp.users, ramp.started, ramp.ok_count, ramp.failed_count) == ("ramp", 4, 2, 1, 1)
    assert (run.name, run.users, run.started, run.ok_count, run.abandoned_count) == ("run", 5, 3, 2, 1)
