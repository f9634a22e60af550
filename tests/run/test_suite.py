"""The main job as its user runs it, and what must come of it when the target does not do as it should."""

import json
import os
import re
import shutil
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.locust_run import LocustRun, eventually, target_settings
from tests.run.conftest import quick_stack

pytestmark = pytest.mark.chance

QUICK = {"ASYNCLOAD_CHAT_SUSTAIN": "2s", "ASYNCLOAD_GENERATOR_MAX_LOOP_LAG": "10s"}
"""Short phases; and a busy test machine is no reason to call these runs invalid."""


SHM_IS_LARGE = Path("/dev/shm").is_dir() and shutil.disk_usage("/dev/shm").free > 300 << 20


def verdicts(results: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in results["criteria"]}


def ledger(stack: DemoStack) -> dict[str, Any]:
    with urllib.request.urlopen(stack.ledger_url) as answer:
        counts: dict[str, Any] = json.load(answer)
    return counts


def test_a_target_that_blocks_fails_the_criteria_that_it_should(tmp_path: Path) -> None:
    settings = {**QUICK, "ASYNCLOAD_DEMO_MODE": "blocking", "ASYNCLOAD_SCENARIOS": "chat,redis"}
    settings |= {"ASYNCLOAD_CHAT_USERS": "27", "ASYNCLOAD_CHAT_SUSTAIN": "0"}  # one behind the other they take 5.4 s
    settings["ASYNCLOAD_LOOP_PROBE_PATH"] = "/my/loop"  # the demo mounts its probe there
    with LocustRun("suite.py", "--headless", out=tmp_path / "reports", settings=settings) as run:
        code = run.wait()
        results = run.results

    assert code == 3, run.output
    found = verdicts(results)
    for name in ("chat total_time < 5 s", "chat p95 < 2 s", "chat speedup >= 10x", "chat max_stall < 10 ms"):
        assert found[name] == "fail"
    assert found["chat error_rate < 1 %"] == found["redis error_rate < 1 %"] == "pass"
    assert found["redis total_time < 2 s"] == "pass"
    assert results["metrics"][0]["event_loop_blocked"] is True
    target = next(loop for loop in results["metrics"][0]["event_loops"] if loop["name"] == "target")
    assert (target["witness"], target["blocked"]) == ("inside", True), target["note"]
    assert (target["limit_s"], target["period_s"]) == (0.01, 0.003)
    assert "time.sleep" in target["culprits"][0]["call"]
    assert target["culprits"][0]["file"].endswith("backends.py")


def test_a_target_killed_in_the_middle_is_told_by_kind(tmp_path: Path) -> None:
    with quick_stack() as stack:
        settings = {**target_settings(stack), "ASYNCLOAD_SCENARIOS": "chat", "ASYNCLOAD_CHAT_SUSTAIN": "3s"}
        settings["ASYNCLOAD_BASELINE_ENABLED"] = "false"
        with LocustRun("suite.py", "--headless", out=tmp_path / "reports", settings=settings) as run:
            run.expect("burst")
            eventually(lambda: ledger(stack)["chat"]["received"] > 60)
            os.kill(stack.pids["backend"], signal.SIGKILL)
            code = run.wait()
            results = run.results

    assert code not in (0, None), run.output
    sustained = next(phase for phase in results["metrics"][0]["phases"] if phase["phase"] == "sustained")
    assert sustained["failed_requests"] > 0
    assert sum(error["count"] for error in sustained["errors"]) == sustained["failed_requests"]
    assert all(re.search(r"connect|connection|reset|closed|send", e["error"], re.I) for e in sustained["errors"])
    assert sustained["started_requests"] == sustained["total_requests"] + sustained["abandoned_requests"]
    assert verdicts(results)["chat.sustained error_rate < 1 %"] == "fail"


def test_what_fails_is_told_as_soon_as_it_is_known(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_SCENARIOS": "chat", "ASYNCLOAD_CHAT_PATH": "/nope"}
    with LocustRun("suite.py", "--headless", out=tmp_path / "reports", settings=settings) as run:
        run.expect("most frequent error (5 times): POST /nope HttpStatusError: HTTP 404")
        assert not list((tmp_path / "reports").iterdir())
        assert run.wait() == 3, run.output

    (row,) = (row for row in run.results["criteria"] if row["name"] == "chat error_rate < 1 %")
    assert (row["verdict"], row["why"]) == ("fail", "50 of 50 failures: HttpStatusError: HTTP 404")


def test_without_a_baseline_the_speedup_is_not_evaluated(tmp_path: Path, stack: DemoStack) -> None:
    """Nor does the directory for files matter, where no scenario writes any."""
    settings = {**target_settings(stack), **QUICK, "ASYNCLOAD_BASELINE_ENABLED": "false"}
    settings |= {"ASYNCLOAD_SCENARIOS": "redis", "ASYNCLOAD_FILES_DIRECTORY": "/nowhere"}
    with LocustRun("suite.py", "--headless", out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() == 0, run.output
        results = run.results

    assert f"Run {results['run']['id']}: 1 scenario against" in run.output
    assert verdicts(results)["redis speedup >= 10x"] == "not evaluated"
    assert results["metrics"][0]["baseline"] is None
    assert results["metrics"][0]["total_requests"] == 100


@pytest.mark.skipif(not SHM_IS_LARGE, reason="/dev/shm has less room than file users want to leave free")
def test_files_that_lie_in_memory_are_told_of(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**target_settings(stack), **QUICK, "ASYNCLOAD_BASELINE_ENABLED": "false"}
    settings |= {"ASYNCLOAD_SCENARIOS": "mixed", "ASYNCLOAD_FILES_DIRECTORY": "/dev/shm"}
    with LocustRun("suite.py", "--headless", out=tmp_path / "reports", settings=settings) as run:
        run.wait()
        results = run.results

    told = "files lie in memory (tmpfs), where fsync costs nothing"
    assert run.output.count(f"Note: {told}; to measure a disk, set files.directory\n") == 1
    (row,) = (row for row in results["criteria"] if row["name"] == "mixed file_interference <= 3x")
    assert row["why"].endswith(told)


def test_no_baseline_is_run_where_there_is_nothing_to_compare_it_with(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**target_settings(stack), **QUICK, "ASYNCLOAD_SCENARIOS": "redis"}
    settings["ASYNCLOAD_REDIS_URL"] = "redis://127.0.0.1:1/0"
    with LocustRun("suite.py", "--headless", out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() in (3, 6), run.output  # and not incomplete
        (metric,) = run.results["metrics"]

    problem = "no request of the phase burst succeeded"
    assert f"no baseline: {problem}\n" in run.output
    assert (metric["failed_requests"], metric["baseline"]["started_requests"]) == (100, 0)
    assert metric["baseline"]["explanation"] == f"No improvement can be stated: {problem}."
    (row,) = (row for row in run.results["criteria"] if row["name"] == "redis speedup >= 10x")
    assert (row["verdict"], row["why"]) == ("no data", problem)
