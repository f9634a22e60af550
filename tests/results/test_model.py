"""The document says what the recorder counted, in seconds, and nothing where there was nothing."""

import json
import math
from itertools import pairwise
from typing import Any

import pytest

from asyncload_lib.results.figures import phase_figures
from asyncload_lib.results.merge import Store
from asyncload_lib.results.model import Baseline, build_metric, build_results, heading
from asyncload_lib.results.phase import MOST_NAMES, PhaseResult
from asyncload_lib.results.recorder import Recorder
from tests.results.sample import sample_results

SECOND = 1_000_000_000
COMPLETE = {"status": "complete", "started": "2026-01-31T12:00:00Z"}
VALID = {"valid": True, "reasons": [], "processes": []}


def phase_of(name: str, ok_ms: list[float], failed_ms: list[float] | None = None, wall_s: float = 2.0) -> PhaseResult:
    recorder = Recorder("run", clock_ns=lambda: 0)
    recorder.begin(name, users=7, t0_ns=0)
    recorder.tick(int(wall_s * SECOND))
    for latency_ms in ok_ms:
        recorder.add("POST", "/api/chat", latency_ms, None)
    for latency_ms in failed_ms or []:
        recorder.add("POST", "/api/chat", latency_ms, "HTTP 503")
    return recorder.results()[name]


def metric_of(headline: PhaseResult, baseline: PhaseResult | None = None, **facts: Any) -> dict[str, Any]:
    blocking = None if baseline is None else Baseline(baseline, "one blocking server")
    return build_metric(
        "chat", "50 Concurrent Chat Requests (HTTP)", headline, [headline], blocking, concurrency=50, **facts
    )


def criterion(verdict: str, scenario: str = "chat") -> dict[str, Any]:
    return {
        "name": "chat p95 < 2 s",
        "scenario": scenario,
        "limit": "< 2 s",
        "observed": "1 s",
        "verdict": verdict,
        "why": "",
    }


def test_flat_figures_are_those_of_successful_requests() -> None:
    metric = metric_of(phase_of("chat/burst", [100.0, 200.0, 300.0], [9_000.0]))
    assert metric["phase"] == "burst"
    assert (metric["total_requests"], metric["successful_requests"], metric["failed_requests"]) == (4, 3, 1)
    assert (metric["error_rate"], metric["requests_per_second"], metric["total_time"]) == (0.25, 2.0, 2.0)
    assert (metric["min_response_time"], metric["max_response_time"]) == (0.1, 0.3)
    assert metric["avg_response_time"] == pytest.approx(0.2)
    assert metric["p50_latency"] == pytest.approx(0.2, rel=0.001)
    assert metric["failed_latency"]["p95"]["value"] == pytest.approx(9.0)
    assert metric["endpoints"][0]["failed_p95_latency"] == pytest.approx(9.0)
    assert metric["endpoints"][0]["errors"] == [{"error": "HTTP 503", "count": 1}]
    assert metric["phases"][0]["concurrency"] == 7
    assert metric["concurrency"] == 50


def test_what_was_cut_off_older_than_any_that_succeeded_is_counted_apart() -> None:
    recorder = Recorder("run", clock_ns=lambda: 0)
    recorder.begin("run", t0_ns=0)
    for kind, name, latency_ms in (("GET", "/a", 10.0), ("POST", "/a", 400.0), ("GET", "/b", 10.0)):
        recorder.add(kind, name, latency_ms, None)
    recorder.add("GET", "/b", 9_000.0, "timeout")
    for name in ("/a", "/b"):  # of which the second has only ended as a GET
        recorder.add_abandoned("POST", name, 300e3)
    for name, age_ms in (("/a", 300.0), ("/b", 300.0), ("/b", 5.0), ("/c", 1.0)):
        recorder.add_abandoned("GET", name, age_ms * 1e3)
    recorder.add_metric("abandoned_age", 5.0, "/c")  # of the user's own making
    figures = phase_figures(recorder.results()["run"], 1)
    assert (figures["abandoned_requests"], figures["overdue_requests"]) == (6, 4)  # two of /b; none of /c succeeded
    assert {(row["type"], row["name"]): row["overdue_requests"] for row in figures["endpoints"]} == {
        ("GET", "/a"): 1, ("POST", "/a"): 0, ("GET", "/b"): 2,
    }  # fmt: skip
    assert {(row["name"], row["request"]): row["count"] for row in figures["request_metrics"]} == {
        ("abandoned_age", "/a"): 2, ("abandoned_age", "/b"): 3, ("abandoned_age", "/c"): 2,
    }  # fmt: skip


@pytest.mark.parametrize(("cut_off", "overdue"), [("dae", {("GET", "a"): 1}), ("dea", {})])
def test_what_is_cut_off_beyond_a_cap_of_names_is_compared_with_what_is_counted_there(
    cut_off: str, overdue: dict[tuple[str, str], int]
) -> None:
    recorder = Recorder("run", clock_ns=lambda: 0)
    recorder.begin("run", t0_ns=0)
    for number in range(MOST_NAMES - 2):  # so that there is room for two names
        recorder.add("GET", f"/{number}", 10.0, None)
        recorder.add_abandoned("GET", f"/{number}", 1.0)
    for name in "abcd":
        recorder.add("GET", name, 400.0 if name in "cd" else 10.0, None)
    for name in cut_off:
        recorder.add_abandoned("GET", name, 300e3)
    assert recorder.results()["run"].overdue == overdue


@pytest.mark.parametrize(("stopped_s", "share"), [(10, 3 * 8 / (4 * 10)), (None, 3 * 10 / (4 * 12))])
def test_each_operation_that_hangs_stands_for_all_that_its_user_would_have_asked(
    stopped_s: int | None, share: float
) -> None:
    now_ns = 0
    recorder = Recorder("run", clock_ns=lambda: now_ns)
    recorder.begin("run", users=4, t0_ns=0)
    recorder.tick(2 * SECOND)
    for _ in range(1_000):
        recorder.add("GET", "/hangs", 8.0, None)
        recorder.add("GET", "/quick", 8.0, None)
    recorder.add("GET", "/held", 8.0, "HTTP 503")
    if stopped_s is not None:
        now_ns = stopped_s * SECOND
        recorder.stopping()
    now_ns = 12 * SECOND
    for age_ms in (10e3, 10e3, 10e3, 5.0):  # the last is no older than others of its name
        recorder.add_abandoned("GET", "/hangs", age_ms * 1e3)
    recorder.add_abandoned("GET", "/held", 12e6)  # none of which ever ended: a stream, it may be
    store = Store("run")
    assert store.accept("worker", recorder.snapshot())
    for phase in (recorder.results()["run"], store.merged()["run"]):
        figures = phase_figures(phase, 4)
        assert figures["omitted_share"] == pytest.approx(share, rel=1e-3)
        assert {row["name"]: row["omitted_share"] is not None for row in figures["endpoints"]} == {
            "/hangs": True, "/held": True, "/quick": False,
        }  # fmt: skip


def test_a_percentile_that_the_sample_cannot_resolve_says_so() -> None:
    latency = metric_of(phase_of("chat/burst", [float(i) for i in range(1, 51)]))["latency"]
    assert latency["p50"]["resolved"] is True
    assert latency["p50"]["ci_low"] < latency["p50"]["value"] < latency["p50"]["ci_high"]
    assert latency["p50"]["note"] == ""
    assert latency["p99"]["resolved"] is False
    assert (latency["p99"]["ci_low"], latency["p99"]["ci_high"]) == (None, None)
    assert latency["p99"]["note"] == "no 95 % interval: p99 needs at least 299 samples, 50 were measured"


def test_percentiles_of_endpoints_metrics_and_failures_say_it_too() -> None:
    recorder = Recorder("run", clock_ns=lambda: 0)
    recorder.begin("chat/burst", t0_ns=0)
    for i in range(1, 71):
        recorder.add("POST", "/api/chat", float(i), None)
        recorder.add("POST", "/api/chat", float(i), "HTTP 503")
        recorder.add_metric("time_to_first_token", i * 1e3, "/api/chat")
    metric = metric_of(recorder.results()["chat/burst"])
    endpoint = metric["endpoints"][0]
    for percentiles in (
        metric["failed_latency"],
        endpoint["latency"],
        endpoint["failed_latency"],
        metric["request_metrics"][0]["percentiles"],
    ):
        assert percentiles["p95"]["resolved"] is True
        assert percentiles["p95"]["ci_low"] < percentiles["p95"]["value"] <= percentiles["p95"]["ci_high"]
        assert percentiles["p95"]["value"] == pytest.approx(0.0665, rel=0.002)
        assert percentiles["p99"]["resolved"] is False
        assert percentiles["p99"]["note"] == "no 95 % interval: p99 needs at least 299 samples, 70 were measured"
    assert endpoint["p95_latency"] == endpoint["latency"]["p95"]["value"]


@pytest.mark.parametrize(
    ("name", "concurrency", "shown"),
    [
        ("50 Concurrent Chat Requests (HTTP)", 50, "50 Concurrent Chat Requests (HTTP)"),
        ("50 Concurrent Chat Requests (HTTP)", 80, "50 Concurrent Chat Requests (HTTP) - run with 80"),
        ("Cross-VM Concurrent Requests", 3, "Cross-VM Concurrent Requests"),
        ("50 Concurrent Chat Requests (HTTP)", None, "50 Concurrent Chat Requests (HTTP)"),
    ],
)
def test_the_fixed_name_has_the_real_number_beside_it(name: str, concurrency: int | None, shown: str) -> None:
    assert heading(name, concurrency) == shown


def test_nothing_is_null_and_never_zero() -> None:
    metric = metric_of(PhaseResult("chat/burst"))
    silent = ("total_time", "avg_response_time", "min_response_time", "max_response_time", "p50_latency", "p95_latency")
    for key in (*silent, "p99_latency", "requests_per_second", "error_rate", "failed_latency", "event_loop_blocked"):
        assert metric[key] is None, key
    assert metric["latency"]["p50"]["value"] is None
    assert (metric["series"], metric["distribution"], metric["baseline"]) == ([], [], None)


def test_only_failures_have_no_latency_but_a_failed_one() -> None:
    metric = metric_of(phase_of("chat/burst", [], [50.0]))
    assert metric["p95_latency"] is None
    assert metric["error_rate"] == 1.0
    assert metric["failed_latency"]["p50"]["value"] == 0.05


def test_speedup_is_baseline_time_over_headline_time() -> None:
    headline, baseline = phase_of("chat/burst", [100.0], wall_s=0.25), phase_of("chat/baseline", [100.0], wall_s=10.0)
    measured = metric_of(headline, baseline)["baseline"]
    assert (measured["speedup"], measured["ceiling"], measured["total_time"]) == (40.0, 50.0, 10.0)
    assert measured["blocking_operation_time"] == 0.2
    assert measured["explanation"].startswith(
        "Before, with one blocking server, 50 operations took 10 s, on average 200 ms each. "
    )
    slow = metric_of(headline, phase_of("chat/baseline", [100.0], wall_s=60_000.0))["baseline"]
    assert "50 operations took 60,000 s, on average 1,200 s each. " in slow["explanation"]
    assert metric_of(headline, PhaseResult("chat/baseline"))["baseline"]["speedup"] is None
    assert metric_of(PhaseResult("chat/burst"), baseline)["baseline"]["speedup"] is None


@pytest.mark.parametrize(
    ("headline_s", "told"),
    [
        (0.25, "the improvement is 50x."),
        (11.0, "on average 200 ms each."),  # nothing was gained, and the most there is to gain is not told
        (0.1999, "the improvement is 50x."),  # to every digit that is shown, it is the ceiling
        (0.19, "is above the ceiling: single operations took longer in the blocking run."),
    ],
)
def test_an_improvement_is_explained_as_far_as_there_was_one(headline_s: float, told: str) -> None:
    headline = phase_of("chat/burst", [100.0], wall_s=headline_s)
    measured = metric_of(headline, phase_of("chat/baseline", [100.0], wall_s=10.0))["baseline"]
    assert measured["explanation"].endswith(told)
    assert ("can overlap" in measured["explanation"]) == (measured["speedup"] >= 1)


def test_a_baseline_has_the_users_that_it_had() -> None:
    metric = metric_of(phase_of("chat/burst", [100.0]), phase_of("chat/baseline", [100.0]))
    assert (metric["concurrency"], metric["baseline"]["concurrency"], metric["baseline"]["ceiling"]) == (50, 7, 50.0)


def test_a_baseline_of_timeouts_gives_no_speedup() -> None:
    headline = phase_of("chat/burst", [100.0], wall_s=0.25)
    for ok, failed, proves in ((0, 50, False), (49, 1, False), (99, 1, True)):
        baseline = phase_of("chat/baseline", [100.0] * ok, [60_000.0] * failed, wall_s=60.0)
        measured = metric_of(headline, baseline)["baseline"]
        assert measured["speedup"] == (240.0 if proves else None)
        assert measured["blocking_operation_time"] == (1.2 if proves else None)
        assert measured["explanation"].startswith("Before, with" if proves else "No improvement can be stated: ")


def test_a_headline_of_failures_gives_no_speedup() -> None:
    baseline = phase_of("chat/baseline", [100.0], wall_s=10.0)
    for ok, failed, speedup in ((1, 49, None), (49, 1, None), (99, 1, 40.0)):
        headline = phase_of("chat/burst", [100.0] * ok, [1.0] * failed, wall_s=0.25)
        measured = metric_of(headline, baseline)["baseline"]
        assert measured["speedup"] == speedup
        why = f"{failed} of {ok + failed} requests of the phase burst did not succeed"
        assert (why in measured["explanation"]) == (speedup is None)


@pytest.mark.parametrize(
    ("answers", "blocked"),
    [([], None), ([False], False), ([False, None], None), ([None, True], True), ([True, False], True)],
)
def test_event_loop_blocked(answers: list[bool | None], blocked: bool | None) -> None:
    loops = [{"name": "target", "blocked": answer} for answer in answers]
    assert metric_of(phase_of("chat/burst", [1.0]), event_loops=loops)["event_loop_blocked"] is blocked


@pytest.mark.parametrize(
    ("loops", "blocked"),
    [
        ([("generator hub", "inside", True), ("generator", "inside", False)], False),
        ([("target", "inside", False), ("target (outside)", "outside", True)], False),
        ([("target", "inside", True), ("target (outside)", "outside", False)], True),
        ([("generator", "inside", False), ("target (outside)", "outside", True)], True),
        ([("generator hub", "inside", False)], None),
    ],
)
def test_the_witness_nearest_to_a_loop_decides(loops: list[tuple[str, str, bool]], blocked: bool | None) -> None:
    watched = [{"name": name, "witness": witness, "blocked": answer} for name, witness, answer in loops]
    assert metric_of(phase_of("chat/burst", [1.0]), event_loops=watched)["event_loop_blocked"] is blocked


@pytest.mark.parametrize(("low_ms", "high_ms"), [(1e-3, 3.6e6), (10.0, 11.0), (200.0, 200.0), (1.0, 1000.0)])
def test_distribution_has_few_adjacent_bars_and_every_latency(low_ms: float, high_ms: float) -> None:
    step = (high_ms / low_ms) ** (1 / 999)
    ok_ms = [min(low_ms * step**i, high_ms) for i in range(1000)]
    bars = metric_of(phase_of("chat/burst", ok_ms, [low_ms] * 3))["distribution"]
    assert 0 < len(bars) <= 200
    assert all(math.isclose(left["high"], right["low"]) for left, right in pairwise(bars))
    assert sum(bar["ok"] for bar in bars) == 1000
    assert bars[0]["failed"] == 3 == sum(bar["failed"] for bar in bars)
    for bar in bars:
        inside = sum(bar["low"] <= latency / 1e3 < bar["high"] for latency in ok_ms)
        assert bar["ok"] == pytest.approx(inside, abs=1)  # a latency on an edge may round to either side of it


def test_the_summary_repeats_the_verdict_it_is_given() -> None:
    for word in ("pass", "fail", "not evaluated", "incomplete", "invalid"):
        summary = build_results(COMPLETE, [], [], VALID, [], verdict=word)["summary"]
        assert (summary["verdict"], summary["all_passed"]) == (word, word == "pass")
        assert summary["avg_p95_latency"] is None


def test_scenarios_get_their_own_criteria() -> None:
    criteria = [criterion("pass"), criterion("fail", "redis"), criterion("pass", "target")]
    results = build_results(COMPLETE, [metric_of(phase_of("chat/burst", [1.0]))], criteria, VALID, [], verdict="fail")
    assert results["metrics"][0]["criteria"] == criteria[:1]
    assert results["criteria"] == criteria


def test_totals_of_the_document_agree() -> None:
    results = sample_results()
    assert results["summary"]["total_requests"] == sum(metric["total_requests"] for metric in results["metrics"])
    for metric in results["metrics"]:
        for figures in (metric, *metric["phases"], metric["baseline"]):
            total = figures["total_requests"]
            assert total == sum(endpoint["total_requests"] for endpoint in figures["endpoints"])
            assert total == sum(interval["ok"] + interval["failed"] for interval in figures["series"])
            assert total == figures["successful_requests"] + figures["failed_requests"]
            assert total - figures["invalid_latencies"] == sum(
                bar["ok"] + bar["failed"] for bar in figures["distribution"]
            )
            assert figures["failed_requests"] == sum(error["count"] for error in figures["errors"])
            assert figures["started_requests"] == total + figures["abandoned_requests"]


def test_the_same_seed_gives_the_same_document() -> None:
    assert json.dumps(sample_results(3)) == json.dumps(sample_results(3))
    assert sample_results(3) != sample_results(4)
