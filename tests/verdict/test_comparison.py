"""Two runs beside each other: never "faster" by chance, never a ratio of what cannot be compared."""

import copy
import re
from typing import Any

import pytest

from asyncload_lib.verdict.comparison import compare
from tests.results.sample import sample_results

Results = dict[str, Any]

SAMPLE = sample_results()


@pytest.fixture
def before() -> Results:
    return copy.deepcopy(SAMPLE)


@pytest.fixture
def after() -> Results:
    return copy.deepcopy(SAMPLE)


def chat(results: Results) -> dict[str, Any]:
    entry: dict[str, Any] = results["metrics"][0]
    return entry


def row_of(comparison: dict[str, Any], metric: str, scenario: str = "chat") -> dict[str, Any]:
    row: dict[str, Any]
    (row,) = [row for row in comparison["rows"] if (row["scenario"], row["metric"]) == (scenario, metric)]
    return row


def scaled(results: Results, factor: float, requests: int | None = None) -> Results:
    """Make chat `factor` times slower, in every figure that a comparison looks at."""
    entry = chat(results)
    entry["total_requests"] = requests or entry["total_requests"]
    entry["total_time"] *= factor
    entry["requests_per_second"] /= factor
    entry["p50_latency"] *= factor
    entry["max_response_time"] *= factor
    for percentile in entry["latency"].values():
        for edge in ("value", "ci_low", "ci_high"):
            percentile[edge] = None if percentile[edge] is None else percentile[edge] * factor
    return results


# --- words -----------------------------------------------------------------------------------------------------------


def test_a_run_is_never_faster_than_itself(before: Results, after: Results) -> None:
    comparison = compare(before, after)
    assert comparison["comparable"]
    assert (
        len(comparison["rows"]) == 4 * 7 + 1 + (2 + 2) * 4
    )  # headlines, the target's loop; few and sustained, redis_alone and files_alone
    assert {row["change"] for row in comparison["rows"]} == {"none"}
    compared = [row for row in comparison["rows"] if row["test_name"] != "Cross-VM Concurrent Requests"]
    down = [row for row in comparison["rows"] if row not in compared and row["metric"] in ("total_time", "throughput")]
    assert all(row["words"].startswith("1 of 6 requests of the run before did not succeed") for row in down)
    assert {row["words"] for row in compared} <= {
        "not significant", "not significant (too few samples)", "no improvement", "no change",
    }  # fmt: skip
    assert (comparison["change"], comparison["words"]) == ("none", "no improvement")


def test_a_phase_beside_the_headline_that_is_slower_is_worse(before: Results, after: Results) -> None:
    sustained = next(phase for phase in chat(after)["phases"] if phase["phase"] == "sustained")
    for percentile in sustained["latency"].values():
        percentile |= {edge: percentile[edge] and percentile[edge] * 9 for edge in ("value", "ci_low", "ci_high")}
    comparison = compare(before, after)
    assert row_of(comparison, "sustained p95")["words"].startswith("9.0x slower (")
    assert comparison["words"] == "worse"
    for results in (before, after):
        for phase in chat(results)["phases"]:
            phase["phase"] = {"sustained": "warm_up", "few": "baseline_warm_up"}.get(phase["phase"], phase["phase"])
    assert compare(before, after)["words"] == "no improvement"  # what is measured of a warm-up is no result


@pytest.mark.parametrize("seed", range(2, 22))
def test_two_runs_of_the_same_are_not_faster_either(seed: int, before: Results) -> None:
    """Another sample of the same latencies."""
    again = sample_results(seed)
    again["run"]["seed"] = again["run"]["settings"]["seed"] = before["run"]["seed"]
    comparison = compare(before, again)
    assert comparison["comparable"], comparison["reasons"]
    assert [row for row in comparison["rows"] if row["change"] != "none"] == []


def test_ten_times_faster_is_said_with_its_interval(before: Results, after: Results) -> None:
    comparison = compare(scaled(before, 10), after)
    p50 = row_of(comparison, "p50")
    assert p50["ratio"] == pytest.approx(10)
    match = re.fullmatch(r"10\.0x faster \((\d+\.\d)x to (\d+\.\d)x\)", p50["words"])
    assert match is not None
    assert 5 < float(match[1]) < 10 < float(match[2]) < 20
    for metric in ("total_time", "throughput"):
        row = row_of(comparison, metric)
        assert row["words"].startswith("10.0x faster (")
        assert 7 < row["low"] < 10 < row["high"] < 14
        assert row["change"] == "better"
    assert row_of(comparison, "p99")["words"] == "not significant (too few samples)"  # 50 requests
    assert (comparison["change"], comparison["words"]) == ("better", "improved")


def test_large_and_small_figures_are_written_without_an_exponent(before: Results, after: Results) -> None:
    chat(after)["total_time"], chat(after)["requests_per_second"] = 1234.5, 12436.4
    chat(after)["latency"]["p50"]["value"] = 9e-5
    chat(after)["error_rate"] = 1e-7
    comparison = compare(before, after)
    told = [row_of(comparison, metric)["after"] for metric in ("total_time", "throughput", "p50", "error_rate")]
    assert told == ["1,234 s", "12,436/s", "0.09 ms", "0.00001 %"]


def test_slower_is_said_as_plainly(before: Results, after: Results) -> None:
    comparison = compare(before, scaled(after, 4))
    for metric in ("total_time", "throughput", "p50"):
        match = re.fullmatch(r"4\.0x slower \((\d\.\d)x to (\d\.\d)x\)", row_of(comparison, metric)["words"])
        assert match is not None
        assert 2 < float(match[1]) <= 4 <= float(match[2]) < 8
    assert (comparison["change"], comparison["words"]) == ("worse", "worse")


def test_a_busy_machine_is_not_a_faster_program(before: Results, after: Results) -> None:
    """Two real bursts of one program: 103 and 59 ms, with lags of 75 and 84 ms that a hundred requests shared."""
    for results, total_s, lag_s in ((before, 0.1029, 0.0745), (after, 0.0594, 0.0842)):
        entry = chat(results)
        entry |= {"total_requests": 100, "total_time": total_s, "requests_per_second": 100 / total_s}
        entry |= {"p50_latency": total_s * 0.96, "max_response_time": total_s}
        for name in ("p50", "p95"):
            entry["latency"][name] = {"value": total_s, "ci_low": total_s * 0.97, "ci_high": total_s}
        entry["event_loops"][0]["lag"]["max"] = lag_s
    comparison = compare(before, after)
    assert [row["words"] for row in comparison["rows"][:4]] == ["not significant"] * 4
    for results in (before, after):
        chat(results)["event_loops"][0]["lag"]["max"] = 0.001
        chat(results)["event_loops"][1]["lag"]["max"] = 0.001
    assert "1.7x faster" in row_of(compare(before, after), "total_time")["words"]


@pytest.mark.parametrize(
    ("factor", "requests", "words"),
    [
        (1.3, 50, "not significant"),
        (1.3, 5000, "1.3x faster (1.2x to 1.4x)"),
        (1 / 1.3, 5000, "1.3x slower (1.2x to 1.4x)"),
        (1.05, 1000, "not significant"),
        (1.001, 50_000, "no improvement"),  # known to be equal
        (1.08, 50_000, "no improvement"),  # known to be faster, by what runs differ by themselves
        (1 / 1.08, 50_000, "no improvement"),
    ],
)
def test_doubt_comes_before_the_ratio(
    factor: float, requests: int, words: str, before: Results, after: Results
) -> None:
    for results in (before, after):
        chat(results)["total_time"] = 100.0  # far beyond the slowest request: what counts is how many there were
    row = row_of(compare(scaled(before, factor, requests), scaled(after, 1, requests)), "throughput")
    assert re.sub(r"1\.3x to", "1.2x to", row["words"]) == words


def test_failing_fast_is_no_improvement(before: Results, after: Results) -> None:
    chat(after)["error_rate"] = 0.5
    comparison = compare(scaled(before, 10), after)
    assert row_of(comparison, "error_rate")["words"] == "more errors"
    assert comparison["words"] == "worse"
    chat(before)["error_rate"], chat(after)["error_rate"] = 0.5, 0.0
    assert row_of(compare(before, after), "error_rate")["words"] == "fewer errors"
    chat(before)["error_rate"], chat(after)["error_rate"] = 0.0, 0.02  # one of fifty
    assert row_of(compare(before, after), "error_rate")["words"] == "not significant"


@pytest.mark.parametrize(("failed", "words"), [(0, "improved"), (1, "worse")])
def test_times_of_requests_that_did_not_succeed_are_not_compared(
    failed: int, words: str, before: Results, after: Results
) -> None:
    chat(after)["failed_requests"] = failed  # of 50: more than one in a hundred
    comparison = compare(scaled(before, 10), after)
    assert comparison["words"] == words
    for metric in ("total_time", "throughput"):
        row = row_of(comparison, metric)
        assert (row["after_value"] is None) == bool(failed)
        assert ("1 of 51 requests of the run after did not succeed" in row["words"]) == bool(failed)


def test_what_is_not_there_any_more_is_worse(before: Results, after: Results) -> None:
    chat(after)["latency"]["p95"] = {"value": None, "ci_low": None, "ci_high": None, "resolved": False, "note": ""}
    row = row_of(compare(before, after), "p95")
    assert (row["words"], row["after"], row["change"]) == ("no data", "no data", "worse")
    row = row_of(compare(after, before), "p95")
    assert (row["words"], row["change"]) == ("no data", "none")


@pytest.mark.parametrize(
    ("overdue", "doubtful"),
    [(0, set()), (1, {"p99", "error_rate"}), (4, {"p95", "p99", "error_rate"})],
)
def test_what_requests_that_may_never_have_ended_put_in_doubt_is_worse(
    overdue: int, doubtful: set[str], before: Results, after: Results
) -> None:
    assert chat(after)["successful_requests"] == 50
    chat(after)["overdue_requests"] = overdue
    rows, back = (
        {row["metric"]: row for row in compared["rows"] if row["scenario"] == "chat"}
        for compared in (compare(before, after), compare(after, before))
    )
    for name in ("p50", "p95", "p99", "error_rate"):
        told = (rows[name]["after"], rows[name]["words"], rows[name]["change"])
        assert (told == ("no data", "no data", "worse")) is (name in doubtful), (name, told)
    assert {back[name]["change"] for name in doubtful} <= {"none"}


def blocked(results: Results, stall_s: float, limit_s: float = 0.01, whose: str = "target") -> Results:
    """Have a loop of chat stalled for `stall_s`, and judged by `limit_s`."""
    is_blocked = stall_s >= limit_s
    results["run"]["settings"]["loop.limit"] = limit_s
    loop = next(loop for loop in chat(results)["event_loops"] if loop["name"] == whose)
    loop["by_cause"]["loop"] = {"stalls": int(is_blocked), "blocked_s": stall_s, "max_stall": stall_s}
    loop |= {"limit_s": limit_s, "max_stall": stall_s, "blocked": is_blocked}
    return results


def test_a_loop_that_is_blocked_now_is_worse_and_one_that_is_no_more_is_better(before: Results, after: Results) -> None:
    comparison = compare(before, blocked(after, 0.9))
    row = row_of(comparison, "target_loop")
    assert (row["before"], row["after"], row["words"]) == ("not blocked", "blocked for 900 ms", "blocked now")
    assert (row["before_value"], row["after_value"], row["change"]) == (0.0, 0.9, "worse")
    assert (comparison["change"], comparison["words"]) == ("worse", "worse")
    comparison = compare(after, before)
    assert row_of(comparison, "target_loop")["words"] == "not blocked any more"
    assert comparison["words"] == "improved"
    comparison = compare(blocked(before, 0.02), after)
    assert (row_of(comparison, "target_loop")["words"], comparison["words"]) == ("blocked in both", "no improvement")


def test_a_blocked_target_is_worse_whatever_the_users_own_loop_does(before: Results, after: Results) -> None:
    comparison = compare(blocked(before, 0.3, whose="generator"), blocked(after, 0.9))
    rows = [row_of(comparison, metric) for metric in ("target_loop", "generator_loop")]
    assert [row["words"] for row in rows] == ["blocked now", "not blocked any more"]
    assert [(row["before_value"], row["after_value"]) for row in rows] == [(0.0, 0.9), (0.3, 0.0)]
    assert comparison["words"] == "worse"


def test_a_loop_that_was_not_judged_has_no_data(before: Results, after: Results) -> None:
    loop = next(loop for loop in chat(after)["event_loops"] if loop["name"] == "target")
    loop |= {"blocked": None, "watched_s": 0.0}
    for first, second, change in ((before, after, "worse"), (after, before, "none")):
        row = row_of(compare(first, second), "target_loop")
        assert (row["words"], row["change"]) == ("no data", change)
        assert {row["before"], row["after"]} == {"not blocked", "no data"}
    chat(after)["event_loops"].remove(loop)  # and not even seen from outside
    chat(after)["event_loops"] = [loop for loop in chat(after)["event_loops"] if loop["name"] != "target (outside)"]
    assert row_of(compare(before, after), "target_loop")["words"] == "no data"


def test_a_blocked_loop_is_one_by_the_limits_of_both_runs(before: Results, after: Results) -> None:
    comparison = compare(blocked(before, 0.02), blocked(after, 0.02, limit_s=0.05))
    assert row_of(comparison, "target_loop")["change"] == "none"
    comparison = compare(blocked(before, 0.02), blocked(after, 0.2, limit_s=0.05))
    assert row_of(comparison, "target_loop")["change"] == "worse"


def test_another_verdict_is_noted(before: Results, after: Results) -> None:
    assert not [note for note in compare(before, after)["notes"] if "verdict" in note]
    after["summary"]["verdict"] = after["criteria"][0]["verdict"] = "fail"
    notes = compare(before, after)["notes"]
    assert "verdict was pass and is fail" in notes
    assert f'"{after["criteria"][0]["name"]}" was pass and is fail' in notes


def test_length_of_a_free_run_is_no_result(before: Results, after: Results) -> None:
    before["run"]["kind"] = after["run"]["kind"] = "free"
    metrics = {row["metric"] for row in compare(before, after)["rows"]}
    assert "total_time" not in metrics
    assert {"throughput", "p50", "p95", "p99", "error_rate"} <= metrics


def test_runs_that_asked_for_nothing_in_common_are_not_comparable(before: Results, after: Results) -> None:
    (endpoint, *_) = chat(after)["endpoints"]
    asked = {f"{row['type']} {row['name']}" for row in chat(before)["endpoints"]}
    chat(after)["endpoints"] = [*chat(before)["endpoints"], endpoint | {"name": "/other"}]
    notes = compare(before, after)["notes"]
    assert f"only one of the runs has in chat: {endpoint['type']} /other" in notes
    assert compare(before, after)["comparable"] is True
    chat(after)["endpoints"] = [endpoint | {"name": "/other"}]
    (reason,) = compare(before, after)["reasons"]
    assert reason == f"what chat requests was {', '.join(sorted(asked))} and is {endpoint['type']} /other"


# --- comparability ---------------------------------------------------------------------------------------------------

OBSTACLES = [
    # path to a value                    another value                     what the reason names
    (("run", "seed"), 2, "seed was 1 and is 2"),
    (("run", "kind"), "free", "kind was suite and is free"),
    (("run", "status"), "invalid", "the run after is invalid"),
    (("run", "status"), "incomplete", "the run after is incomplete"),
    (("run", "target"), {"host": "http://h", "embedded": False}, "target was the embedded demo and is http://h"),
    (("run", "settings", "chat.users"), 60, "setting chat.users was 50 and is 60"),
    (("run", "settings", "demo.model_time"), 0.1, "setting demo.model_time was None and is 0.1"),
    (("metrics", 0, "concurrency"), 60, "concurrency of chat was 50 and is 60"),
    (("metrics", 0, "scenario"), "run", "scenarios was chat, redis"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "reason"), OBSTACLES, ids=[row[2] for row in OBSTACLES])
def test_what_is_not_comparable_gets_no_ratio(
    path: tuple[Any, ...], value: object, reason: str, before: Results, after: Results
) -> None:
    place: Any = after
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    comparison = compare(before, after)
    assert (comparison["comparable"], comparison["rows"]) == (False, [])
    assert (comparison["words"], comparison["change"]) == ("not comparable", "none")
    assert len(comparison["reasons"]) == 1
    assert reason in comparison["reasons"][0]
    forced = compare(before, after, force=True)
    assert forced["forced"]
    assert forced["rows"]
    assert [note for note in forced["notes"] if reason in note]


def test_all_obstacles_come_together(before: Results, after: Results) -> None:
    after["run"] |= {"seed": 2, "status": "partial"}
    after["run"]["settings"] |= {"chat.users": 60, "redis.ttl": 5}
    assert len(compare(before, after)["reasons"]) == 4


def test_what_is_compared_may_differ(before: Results, after: Results) -> None:
    """The mode of the demo is what one compares; how a run is stored and judged changes no figure."""
    after["run"]["target"] |= {"mode": "blocking", "host": "http://127.0.0.1:40009"}
    after["run"]["settings"] |= {
        "demo.mode": "blocking", "out": "b", "criteria": ["chat p95 < 1 s"], "loop.limit": 0.02, "baseline.enabled": 0,
    }  # fmt: skip
    after["run"] |= {"python": "3.13.0", "git_commit": "f" * 40}
    before["run"]["settings"]["files.directory"], after["run"]["settings"]["files.directory"] = "/var/tmp", "/dev/shm"
    comparison = compare(before, after)
    assert comparison["comparable"], comparison["reasons"]
    assert [note for note in comparison["notes"] if "mode of the target was async and is blocking" in note]
    assert [note for note in comparison["notes"] if note.startswith("Python was 3.11.7")]
    assert "directory of the files was /var/tmp and is /dev/shm" in comparison["notes"]
