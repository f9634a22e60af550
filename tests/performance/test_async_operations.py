"""The four scenarios as tests, against the embedded target or, with CONFIG=file.toml, against a real system.

    pytest tests/performance/test_async_operations.py -v -s

They run the real `locust` command, and each passes when every criterion of its scenario does: one run of the whole
suite against the embedded target, one run for each scenario against a real system.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from tests.locust_run import ROOT
from tests.logged_process import OF_OTHERS

pytestmark = pytest.mark.chance

SCHEMA = json.loads((ROOT / "asyncload_lib" / "results" / "schema.json").read_text())
CONFIG = os.environ.get("CONFIG")
NAMES = {
    "chat": "50 Concurrent Chat Requests (HTTP)",
    "redis": "100 Concurrent Redis Operations",
    "mixed": "Mixed File I/O + Redis Operations",
    "vm_health": "Cross-VM Concurrent Requests",
}


def run_suite(out: Path, *options: str) -> SimpleNamespace:
    """Run suite.py to its end, with what the environment says of a real system; returns what came of it."""
    own = {name: value for name, value in os.environ.items() if CONFIG or not name.startswith(OF_OTHERS)}
    command = [
        *(sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "suite.py"), "--headless"),
        *("--only-summary", "--loglevel", "WARNING", "--asyncload-out", str(out), *options),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=170,
        check=False,
    )
    print(done.stdout)
    told = f"exit code {done.returncode}\n{done.stdout}"
    assert (out / "latest.json").exists(), told
    results = json.loads((out / "latest.json").read_text())
    return SimpleNamespace(code=done.returncode, output=done.stdout, told=told, results=results, out=out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One run of all scenarios against the embedded target."""
    return run_suite(tmp_path_factory.mktemp("whole") / "reports", "--asyncload-chat-sustain", "2s")


@pytest.fixture(name="metric_of")
def judged_metric(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Return a function that gives a scenario's element of "metrics"; fails unless it was run and all of it passed."""

    def metric_of(scenario: str) -> dict[str, Any]:
        if CONFIG:
            options = ("--asyncload-scenarios", scenario, "--asyncload-config", str(Path(CONFIG).resolve()))
            run = run_suite(tmp_path / "reports", *options)
            assert run.code == 0, run.told
            (metric,) = run.results["metrics"]
        else:
            run = request.getfixturevalue("whole")
            assert run.code in (0, 3), run.told  # another scenario may have failed
            (metric,) = (metric for metric in run.results["metrics"] if metric["scenario"] == scenario)
        found: dict[str, Any] = metric
        verdicts = {row["verdict"] for row in found["criteria"]}
        assert "pass" in verdicts
        assert verdicts <= {"pass", "not evaluated"}
        if not CONFIG:
            assert found["test_name"] == NAMES[scenario]
            assert verdicts == {"pass"}
        return found

    return metric_of


def test_50_concurrent_chat_requests(metric_of: Callable[[str], dict[str, Any]]) -> None:
    metric = metric_of("chat")

    assert metric["total_requests"] == metric["concurrency"]
    assert {phase["phase"] for phase in metric["phases"]} == {
        "warm_up",
        "few",
        "burst",
        "sustained",
        "baseline_warm_up",
    }


def test_100_concurrent_redis_operations(metric_of: Callable[[str], dict[str, Any]]) -> None:
    metric = metric_of("redis")

    assert metric["total_requests"] == metric["concurrency"]
    assert {endpoint["name"] for endpoint in metric["endpoints"]} == {"set+get"}


def test_mixed_file_redis_operations(metric_of: Callable[[str], dict[str, Any]]) -> None:
    metric = metric_of("mixed")

    counts = {endpoint["type"]: endpoint["total_requests"] for endpoint in metric["endpoints"]}
    assert sum(counts.values()) == metric["concurrency"]
    assert set(counts) == {"FILE", "REDIS"}


def test_cross_vm_concurrent_requests(metric_of: Callable[[str], dict[str, Any]]) -> None:
    metric = metric_of("vm_health")

    assert len(metric["vms"]) == metric["total_requests"]
    assert sum(vm["state"] == "up" for vm in metric["vms"]) * 2 >= len(metric["vms"])


@pytest.mark.skipif(CONFIG is not None, reason="about the embedded target, in one run of all scenarios")
def test_every_scenario_runs_and_all_files_agree(whole: SimpleNamespace) -> None:
    results = whole.results
    found = {row["verdict"] for row in results["criteria"]}
    # 6: on a busy machine the generator could not keep up.
    assert whole.code in (3 if "fail" in found else 0, 6), whole.told
    jsonschema.validate(results, SCHEMA)
    assert [metric["scenario"] for metric in results["metrics"]] == ["chat", "redis", "mixed", "vm_health"]
    assert [metric["total_requests"] for metric in results["metrics"]] == [50, 100, 50, 6]
    assert found in ({"pass"}, {"pass", "fail"})
    for metric in results["metrics"]:
        assert metric["successful_requests"] == metric["started_requests"] == metric["total_requests"]
        assert metric["baseline"]["total_requests"] == metric["total_requests"]
        culprits = [culprit for loop in metric["event_loops"] for culprit in loop.get("culprits", [])]
        assert not [culprit for culprit in culprits if "gc." in culprit["call"]], culprits
    speedup = results["metrics"][0]["baseline"]["speedup"]
    assert speedup >= 10
    markdown, html = (
        next(whole.out.glob(f"async_load_test_report_*.{ending}")).read_text() for ending in ("md", "html")
    )
    for row in results["criteria"]:
        for text in (markdown, html, whole.output):
            assert row["observed"].replace("x", "") in text.replace("\N{NO-BREAK SPACE}", " "), row
    assert (whole.out / "latest.json").read_text() == next(whole.out.glob("async_load_test_results_*.json")).read_text()
    assert not list(whole.out.glob("checkpoint_*"))
