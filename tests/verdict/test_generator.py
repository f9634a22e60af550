"""A run is valid when every process of the generator is known to have kept within its limits."""

from typing import Any

import pytest

from asyncload_lib.verdict.criteria import evaluate
from asyncload_lib.verdict.generator import judge_generator
from asyncload_lib.verdict.grammar import parse

LIMITS = {"cpu_percent_max": 90.0, "loop_lag_p99": 0.1, "hub_lag_p99": 0.5, "send_delay_p99": 0.2}
CALM = {"process": "a:1", "cpu_percent_max": 20.0, "loop_lag_p99": 0.01, "hub_lag_p99": 0.02, "send_delay_p99": 0.03}


def reasons(*rows: dict[str, Any]) -> list[str]:
    judged = judge_generator(rows, LIMITS)
    assert judged["valid"] == (not judged["reasons"])
    found: list[str] = judged["reasons"]
    return found


def test_a_calm_process_is_valid_and_its_worst_scenario_is_shown() -> None:
    assert reasons(CALM) == []
    (row,) = judge_generator([CALM, {**CALM, "cpu_percent_max": 55.0}], LIMITS)["processes"]
    assert row == {**CALM, "cpu_percent_max": 55.0, "limits": LIMITS}


@pytest.mark.parametrize("key", LIMITS)
def test_one_figure_over_its_limit_is_named_with_its_process(key: str) -> None:
    (reason,) = reasons({**CALM, "process": "b:2"}, {**CALM, key: LIMITS[key] * 1.5})
    assert reason.startswith("a:1: ")
    assert "over the limit" in reason


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("cpu_percent_max", 90.3, "CPU was 90.3 %, over the limit of 90 %"),
        ("cpu_percent_max", 90.0004, "CPU was 90.0004 %, over the limit of 90 %"),
        ("loop_lag_p99", 0.10004, "event-loop lag p99 was 0.10004 s, over the limit of 0.1 s"),
    ],
)
def test_a_figure_over_its_limit_does_not_look_like_it(key: str, value: float, told: str) -> None:
    assert reasons({**CALM, key: value}) == [f"a:1: {told}"]


@pytest.mark.parametrize("key", ["cpu_percent_max", "loop_lag_p99", "hub_lag_p99"])
def test_a_figure_that_was_not_measured_is_no_pass(key: str) -> None:
    (reason,) = reasons(CALM, {**CALM, key: None})  # of one scenario; that another had it changes nothing
    assert reason.startswith("a:1: ")
    assert reason.endswith("was not measured")


def test_where_no_user_was_released_there_is_no_send_delay() -> None:
    assert reasons({**CALM, "send_delay_p99": None}) == []


def test_a_process_that_said_nothing_is_no_pass() -> None:
    assert reasons() == ["no generator process reported its own health"]
    found = reasons(CALM, {"process": "worker w2"})
    assert len(found) == 3
    assert all(reason.startswith("worker w2: ") for reason in found)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("generator send_delay < 5 s", "0.03 s"),
        ("generator loop_lag < 5 s", "no data"),
        ("generator cpu < 90 %", "20 %"),
    ],
)
def test_only_a_send_delay_may_be_missing_where_no_user_was_released(text: str, seen: str) -> None:
    master = {**CALM, "process": "master", "send_delay_p99": None, "loop_lag_p99": None}
    (row,) = evaluate([parse(text)], {"metrics": [], "generator": {"processes": [CALM, master]}})
    assert (row["observed"], row["verdict"]) == (seen, "no data" if seen == "no data" else "pass")


def test_a_send_delay_that_nobody_has_is_no_data() -> None:
    results = {"metrics": [], "generator": {"processes": [{**CALM, "send_delay_p99": None}]}}
    (row,) = evaluate([parse("generator send_delay < 5 s")], results)
    assert row["verdict"] == "no data"
