"""What is planned for a scenario, and what its own figures are made of."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.results.recorder import Recorder
from asyncload_lib.run.scenarios import planned, suite_metric
from asyncload_lib.run.session import _unaccounted
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.verdict.criteria import evaluate
from asyncload_lib.verdict.defaults import selected
from asyncload_lib.verdict.grammar import parse
from asyncload_lib.vm_list import Vm
from tests.results.sample import sample_results

MS = 1_000_000
DEFAULT = Settings()
TARGET = Target(
    host="http://127.0.0.1:1",
    baseline_host="http://127.0.0.1:2",
    vms=tuple(Vm(f"vm{number}", "http", f"http://127.0.0.1:1/{number}") for number in range(6)),
)


def checked(starts_ms: Sequence[int], took_ms: int = 40) -> dict[str, Any]:
    """Return the metric of six checks that began so long after their common release."""
    (scenario,) = planned(replace(DEFAULT, scenarios=("vm_health",)), TARGET)
    recorder = Recorder("run", clock_ns=lambda: 0)
    recorder.begin("vm_health/checks", users=6, t0_ns=0)
    for vm, start_ms in zip(TARGET.vms, starts_ms, strict=True):
        recorder.tick((start_ms + took_ms) * MS)
        recorder.add("VM", vm.name, float(start_ms + took_ms), None)
        recorder.add_metric("service_time", took_ms * 1e3, vm.name)
        recorder.add_metric("send_delay", start_ms * 1e3, vm.name)
    return suite_metric(scenario, recorder.results(), TARGET, event_loops=(), start_skew_s={}, watched_from_ns=0)


@pytest.mark.parametrize(
    ("starts_ms", "beyond_s", "verdict"), [([0] * 6, 0.0, "pass"), (range(0, 240, 40), 0.2, "fail")]
)
def test_checks_that_wait_for_each_other_are_not_at_the_same_time(
    starts_ms: Sequence[int], beyond_s: float, verdict: str
) -> None:
    metric = checked(starts_ms)
    assert metric["extra"]["slowest_check"] == pytest.approx(0.04, rel=0.001)
    assert metric["extra"]["beyond_slowest"] == pytest.approx(beyond_s, abs=0.001)
    rows = evaluate(selected([], ["vm_health"], "suite", 0.010, defaults=True), {"metrics": [metric]})
    assert {row["name"]: row["verdict"] for row in rows}["vm_health beyond_slowest <= 50 ms"] == verdict


def test_checks_that_were_never_made_have_no_wall_time_to_compare() -> None:
    (scenario,) = planned(replace(DEFAULT, scenarios=("vm_health",)), TARGET)
    metric = suite_metric(scenario, {}, TARGET, event_loops=(), start_skew_s={}, watched_from_ns=0)
    assert metric["extra"]["beyond_slowest"] is None


def limits_s(settings: Settings) -> dict[str, float]:
    return {s.phase_key(phase): phase.limit_s for s in planned(settings, TARGET) for phase in s.phases}


def test_a_phase_may_take_what_the_timeouts_of_its_own_operations_allow() -> None:
    settings = replace(
        DEFAULT,
        chat=replace(DEFAULT.chat, timeout=1.0),
        redis=replace(DEFAULT.redis, timeout=3.0, operations=20_000),
        vm_health=replace(DEFAULT.vm_health, timeout=7.0),
    )
    found = limits_s(settings)
    assert found["chat/burst"] == found["chat/sustained"] == 1.0
    assert found["redis/burst"] >= 2 * 3.0
    assert found["redis/baseline"] >= 20_000 * 2 * 3.0
    assert found["mixed/baseline"] >= 25 * 2 * 3.0
    assert found["vm_health/checks"] >= 7.0
    assert found["vm_health/baseline"] >= 6 * 7.0

    longer_chat = limits_s(replace(settings, chat=replace(settings.chat, timeout=100.0)))
    assert [key for key in found if longer_chat[key] != found[key]] == [key for key in found if key.startswith("chat/")]


def mixed(
    samples: int, failed: int = 0, together_ms: float = 80.0, alone_ms: float = 40.0, file_note: str = ""
) -> dict[str, Any]:
    """Return the metric of the mixed scenario; `failed` operations of Redis alone failed."""
    (scenario,) = planned(replace(DEFAULT, scenarios=("mixed",)), TARGET)
    recorder = Recorder("run", clock_ns=lambda: 0)
    for phase, kinds in (("redis_alone", ["REDIS"]), ("files_alone", ["FILE"]), ("mixed", ["REDIS", "FILE"])):
        recorder.begin(f"mixed/{phase}", t0_ns=0)
        for kind in kinds:
            for number in range(samples):
                error = "refused" if phase == "redis_alone" and number < failed else None
                recorder.tick(80 * MS)
                recorder.add(kind, "x", together_ms if phase == "mixed" else alone_ms, error)
    return suite_metric(
        scenario,
        recorder.results(),
        TARGET,
        event_loops=(),
        start_skew_s={"mixed/files_alone": 0.5},
        watched_from_ns=0,
        file_note=file_note,
    )


def test_a_ratio_of_percentiles_that_are_not_resolved_says_so() -> None:
    criterion = parse("mixed redis_interference <= 3x")
    (row,) = evaluate([criterion], {"metrics": [mixed(25)]})
    assert (row["verdict"], row["observed"]) == ("pass", "2x")
    needs = "no 95 % interval: p95 needs at least 59 samples, 25 were measured"
    assert row["why"] == f"mixed 80 ms, redis_alone 40 ms; mixed and redis_alone: {needs}"
    (row,) = evaluate([criterion], {"metrics": [mixed(60)]})
    assert (row["verdict"], row["why"]) == ("pass", "mixed 80 ms, redis_alone 40 ms")


def test_where_files_lie_is_told_with_what_was_found_of_them() -> None:
    criteria = [parse(f"mixed {name} <= 3x") for name in ("file_interference", "redis_interference")]
    of_files, of_redis = evaluate(criteria, {"metrics": [mixed(60, file_note="files lie in memory")]})
    assert of_files["why"] == "mixed 80 ms, files_alone 40 ms; files lie in memory"
    assert of_redis["why"] == "mixed 80 ms, redis_alone 40 ms"


@pytest.mark.parametrize(
    ("together_ms", "alone_ms", "verdict", "observed", "why"),
    [
        (15.0, 2.0, "pass", "1x", "mixed 15 ms, redis_alone 2 ms; a p95 below 20 ms is counted as 20 ms"),
        (50.0, 2.0, "pass", "2.5x", "mixed 50 ms, redis_alone 2 ms; a p95 below 20 ms is counted as 20 ms"),
        (80.0, 2.0, "fail", "4x", "mixed 80 ms, redis_alone 2 ms; a p95 below 20 ms is counted as 20 ms"),
        (80.0, 21.0, "fail", "3.81x", "mixed 80 ms, redis_alone 21 ms"),
        (2800.0, 996.0, "pass", "2.81x", "mixed 2.8 s, redis_alone 996 ms"),
    ],
)
def test_what_is_over_in_an_instant_held_nobody_up(
    together_ms: float, alone_ms: float, verdict: str, observed: str, why: str
) -> None:
    metrics = [mixed(60, together_ms=together_ms, alone_ms=alone_ms)]
    (row,) = evaluate([parse("mixed redis_interference <= 3x")], {"metrics": metrics})
    assert (row["verdict"], row["observed"], row["why"]) == (verdict, observed, why)


def test_a_phase_without_load_that_was_the_slower_one_is_told() -> None:
    (scenario,) = planned(replace(DEFAULT, scenarios=("chat",)), TARGET)
    recorder = Recorder("run", clock_ns=lambda: 0)
    for phase, took_ms in (("few", 900), ("sustained", 100)):
        recorder.begin(f"chat/{phase}", t0_ns=0)
        for _ in range(60):
            recorder.tick(took_ms * MS)
            recorder.add("POST", "/api/chat", float(took_ms), None)
    metric = suite_metric(scenario, recorder.results(), TARGET, event_loops=(), start_skew_s={}, watched_from_ns=0)
    (row,) = evaluate([parse("chat degradation <= 1.5x")], {"metrics": [metric]})
    assert row["verdict"] == "pass"
    assert "the phase few was slower than sustained, so this ratio says nothing" in row["why"]


def test_a_service_that_starts_lazily_has_done_so_before_it_is_measured() -> None:
    (scenario,) = planned(replace(DEFAULT, scenarios=("chat",)), TARGET)
    assert [(phase.name, phase.user_count, phase.baseline) for phase in scenario.phases] == [
        ("warm_up", 5, False),
        ("few", 5, False),
        ("burst", 50, False),
        ("sustained", 50, False),
        ("baseline_warm_up", 5, True),
        ("baseline", 50, True),
    ]
    # a p95 of few samples would be chance, and what it is compared with would look degraded
    assert {phase.name: phase.sustain_s for phase in scenario.phases if phase.sustain_s} == {
        "few": 15.0,
        "sustained": 15.0,
    }
    (scenario,) = planned(replace(DEFAULT, scenarios=("chat",), chat=replace(DEFAULT.chat, sustain=0.0)), Target())
    assert [phase.name for phase in scenario.phases] == ["warm_up", "burst"]


def test_a_ratio_to_operations_that_failed_is_no_ratio() -> None:
    (row,) = evaluate([parse("mixed redis_interference <= 3x")], {"metrics": [mixed(60, failed=5)]})
    assert (row["verdict"], row["observed"]) == ("no data", "no data")
    assert "5 of 60 requests of the phase redis_alone did not succeed" in row["why"]
    (row,) = evaluate([parse("mixed file_interference <= 3x")], {"metrics": [mixed(60, failed=5)]})
    assert row["verdict"] == "pass"


def test_the_start_skew_of_every_phase_can_be_judged() -> None:
    metric = mixed(60)
    rows = evaluate(
        [parse("mixed.files_alone start_skew < 1 s"), parse("mixed start_skew < 1 s")], {"metrics": [metric]}
    )
    assert [(row["verdict"], row["observed"]) for row in rows] == [("pass", "0.5 s"), ("no data", "no data")]


def test_what_was_started_and_is_in_no_figure_is_named() -> None:
    metrics = sample_results()["metrics"]
    assert _unaccounted(metrics) == []
    for phase, lost in ((metrics[0]["phases"][1], 2), (metrics[1]["baseline"], -1)):
        phase["started_requests"] += lost
    assert _unaccounted(metrics) == [
        "chat.burst: 52 requests were started, but 50 are accounted for",
        "redis.baseline: 199 requests were started, but 200 are accounted for",
    ]


def test_the_example_report_is_of_a_run_as_it_is_today() -> None:
    example = json.loads((Path(__file__).parents[2] / "reports" / "example" / "results.json").read_text())
    phases = {metric["scenario"]: [phase["phase"] for phase in metric["phases"]] for metric in example["metrics"]}
    assert phases == {
        scenario.key: [phase.name for phase in scenario.phases if phase.name != "baseline"]
        for scenario in planned(DEFAULT, TARGET)
    }
