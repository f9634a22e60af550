import xml.etree.ElementTree as ET
from typing import Any

from asyncload_lib.report.junit import render_junit
from tests.report.cases import CASES
from tests.results.sample import sample_results


def suites(results: dict[str, Any]) -> dict[str | None, ET.Element]:
    return {suite.get("name"): suite for suite in ET.fromstring(render_junit(results))}


def test_verdicts_become_outcomes() -> None:
    results = sample_results()
    for criterion, word in zip(results["criteria"], ("fail", "no data", "not evaluated", "splendid"), strict=False):
        criterion["verdict"] = word
    chat = suites(results)["50 Concurrent Chat Requests (HTTP)"]
    outcomes = [[child.tag for child in case] for case in chat.iter("testcase")]
    assert outcomes[:5] == [["failure"], ["error"], ["skipped"], ["error"], []]
    assert [chat.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["5", "1", "2", "1"]


def test_a_failure_tells_limit_and_observation() -> None:
    chat = suites(CASES["failing"]())["50 Concurrent Chat Requests (HTTP)"]
    failure = next(chat.iter("failure"))
    assert failure.get("message") == "limit < 5 s, observed 10"
    assert failure.text == "total_time was 10, the limit is < 5 s"


def test_a_dash_in_what_is_told_stays_there() -> None:
    results = CASES["failing"]()
    results["criteria"][0].update(observed="10 – 12 s", why="pool: 5 – 7 busy")  # noqa: RUF001
    failure = next(suites(results)["50 Concurrent Chat Requests (HTTP)"].iter("failure"))
    assert failure.get("message") == "limit < 5 s, observed 10 – 12 s"  # noqa: RUF001
    assert failure.text == "pool: 5 – 7 busy"  # noqa: RUF001


def test_a_criterion_on_no_scenario_has_a_suite_of_its_own() -> None:
    results = sample_results()
    results["criteria"].append({**results["criteria"][0], "name": "target max_stall < 10 ms", "scenario": "target"})
    assert suites(results)["target"].get("tests") == "1"


def test_a_run_that_certifies_nothing_is_an_error_even_where_all_criteria_hold() -> None:
    assert suites(sample_results())["run"].get("errors") == "0"
    for case in ("invalid", "empty"):
        assert suites(CASES[case]())["run"].get("errors") == "1"
    error = next(suites(CASES["empty"]())["run"].iter("error"))
    assert error.get("message") == "worker w1 was lost 12.1 s after the start"


def test_a_run_that_failed_without_a_criterion_is_a_failure() -> None:
    for verdicts in ([], ["not evaluated"]):
        results = sample_results()
        results["criteria"] = [{**results["criteria"][0], "verdict": word} for word in verdicts]
        results["summary"]["verdict"] = "fail"
        assert ET.fromstring(render_junit(results)).get("failures") == "1"
        failure = next(suites(results)["run"].iter("failure"))
        assert (failure.get("message") or "").startswith("No criterion was evaluated; 7 of 961 requests failed")


def test_a_run_of_which_nothing_was_asked_is_skipped() -> None:
    run = suites(CASES["not_judged"]())["run"]
    assert [run.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["1", "0", "0", "1"]
    message = next(run.iter("skipped")).get("message")
    assert message == "No criterion was evaluated; 0 of 600 requests failed and an event loop was blocked."


def test_a_failed_criterion_is_not_told_twice() -> None:
    results = CASES["failing"]()
    missed = [criterion for criterion in results["criteria"] if criterion["verdict"] == "fail"]
    assert suites(results)["run"].get("failures") == "0"
    assert ET.fromstring(render_junit(results)).get("failures") == str(len(missed))


def test_long_criteria_are_told_apart() -> None:
    results = CASES["failing"]()
    for at, criterion in enumerate(results["criteria"]):
        criterion["name"] = f"chat[POST /api/{'a/' * 100}{at}] p95 < 2 s"
    names = [case.get("name") for case in ET.fromstring(render_junit(results)).iter("testcase")]
    assert len(names) == len(set(names)) == 1 + len(results["criteria"])
