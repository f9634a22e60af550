"""The shipped schema describes what is built, and would notice if it were built differently."""

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from tests.report.cases import CASES
from tests.results.sample import sample_results

SCHEMA = json.loads((files("asyncload_lib.results") / "schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("mode", ["async", "blocking"])
def test_built_results_fit(mode: str) -> None:
    results = json.loads(json.dumps(sample_results(mode=mode), allow_nan=False))
    assert [error.message for error in VALIDATOR.iter_errors(results)] == []


def test_a_run_of_which_nothing_was_asked_fits() -> None:
    assert list(VALIDATOR.iter_errors(CASES["not_judged"]())) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 2),
        (("metrics", 0, "p95_latency"), "0.2 s"),
        (("metrics", 0, "error_rate"), 1.5),
        (("metrics", 0, "unknown_key"), 1),
        (("metrics", 0, "phases", 0, "total_requests"), -1),
        (("metrics", 0, "latency", "p99", "resolved"), None),
        (("metrics", 0, "event_loops", 0, "witness"), "beside"),
        (("criteria", 0, "verdict"), "passed"),
        (("summary", "verdict"), "ok"),
        (("run", "status"), "fine"),
    ],
)
def test_schema_refuses(path: tuple[Any, ...], value: Any) -> None:
    results = sample_results()
    place: Any = results
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not VALIDATOR.is_valid(results)


@pytest.mark.parametrize("key", ["total_time", "latency", "endpoints", "event_loop_blocked", "baseline", "criteria"])
def test_schema_misses_what_is_missing(key: str) -> None:
    results = sample_results()
    del results["metrics"][0][key]
    assert not VALIDATOR.is_valid(results)
