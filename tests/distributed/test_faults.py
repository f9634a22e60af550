"""Workers that are killed, frozen or ended, and a master that dies: nothing invented, losses named and bounded."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.run.members import REPORT_INTERVAL_S, Silence
from tests.distributed.accounts import (
    by_process,
    differences,
    imbalances,
    lost_s,
    operations,
    phases,
    read_ids,
    read_ledger,
    row,
)
from tests.distributed.cluster import QUICK, Cluster
from tests.distributed.network import unavailable
from tests.locust_run import eventually, target_settings

CHAT = Path(__file__).parent / "chat_by_process.py"
USERS = ("-u", "9", "-r", "9")
SILENCE_S = Silence.TICK_S * Silence.LIMIT_TICKS
REPEATS = int(os.environ.get("REPEATS", "1"))
"""How often the tests of chance are repeated; `soak.py` sets it."""


pytestmark = [pytest.mark.chance, pytest.mark.timeout(180)]


@contextmanager
def start(folder: Path, stack: DemoStack, *arguments: str) -> Iterator[Cluster]:
    """Start three workers on the chat and wait until all of them are at work."""
    with Cluster(folder, CHAT, *USERS, *arguments, settings={**QUICK, **target_settings(stack)}) as cluster:
        eventually(lambda: set(by_process(read_ids(stack))) >= {node.pid for node in cluster.workers}, 60)
        yield cluster


@pytest.mark.parametrize("repeat", range(REPEATS))
def test_a_killed_worker_is_named_and_takes_at_most_one_interval(tmp_path: Path, stack: DemoStack, repeat: int) -> None:
    with start(tmp_path, stack, "-t", "6s") as cluster:
        time.sleep(random.uniform(1, 3))
        victim = random.choice(cluster.workers)
        victim.send(signal.SIGKILL)
        killed_ns = time.monotonic_ns()
        code = cluster.wait()
        results = cluster.results

    assert code == 4, cluster.logs
    told = row(results, victim.pid)
    assert told["state"] == "lost"
    assert told["lost_at"]
    assert any(told["id"] in reason for reason in results["run"]["status_reasons"])
    assert imbalances(results) == []
    ids = read_ids(stack)
    answered = by_process(ids, "answered")
    for node in cluster.workers:
        if node is not victim:
            assert row(results, node.pid)["operations"] == answered[node.pid]
    assert 0 < told["operations"] <= by_process(ids)[victim.pid]
    # In time by soak.py, to the interval; here a busy machine may hold up a report by as much again.
    assert lost_s(ids, victim.pid, told["operations"], killed_ns) <= 2 * REPORT_INTERVAL_S


@pytest.mark.skipif(unavailable() is None, reason="test_machines freezes a worker and cuts another off, in one run")
def test_a_frozen_worker_comes_back_and_nothing_is_counted_twice(tmp_path: Path, stack: DemoStack) -> None:
    with start(tmp_path, stack, "-t", "16s") as cluster:
        frozen = cluster.workers[1]
        frozen.send(signal.SIGSTOP)
        cluster.expect("is lost", timeout_s=SILENCE_S + 5)
        time.sleep(4)
        frozen.send(signal.SIGCONT)
        cluster.expect("is back", timeout_s=10)
        code = cluster.wait()
        results = cluster.results

    assert code == 4, cluster.logs
    assert row(results, frozen.pid)["state"] == "returned"
    assert any("came back" in reason for reason in results["run"]["status_reasons"])
    assert differences(results, read_ledger(stack)) == []


def test_who_is_told_to_end_hands_over_everything(tmp_path: Path, stack: DemoStack) -> None:
    """First one worker after the other, whose users the rest take over; then all that are left, as systemd does it.

    As a terminal does it: test_workers ends a run so.
    """
    with start(tmp_path, stack) as cluster:
        for leaving, number in ((cluster.workers[2], signal.SIGTERM), (cluster.workers[1], signal.SIGINT)):
            leaving.send(number)
            leaving.process.wait(20)
            time.sleep(1)
        for node in (cluster.master, cluster.workers[0]):
            node.send(signal.SIGTERM)
        assert cluster.wait(40) == 143, cluster.logs
        cluster.wait_workers()
        results = cluster.results

    assert results["run"]["status"] == "interrupted"
    # Who is asked for everything before its own farewell comes is "complete": either way nothing is missing.
    assert {row(results, node.pid)["state"] for node in cluster.workers} <= {"left", "complete"}
    assert operations(results, "POST") > 9
    assert differences(results, read_ledger(stack)) == []
    answered = by_process(read_ids(stack), "answered")
    assert {node.pid: row(results, node.pid)["operations"] for node in cluster.workers} == answered


def test_the_loop_of_a_lost_worker_does_not_stand_in_later_scenarios(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_SCENARIOS": "redis,vm_health"}
    with Cluster(tmp_path, "suite.py", workers=2, settings=settings) as cluster:
        cluster.expect("[2/2]")
        lost, left = cluster.workers
        lost.send(signal.SIGKILL)
        assert cluster.wait(60) == 4, cluster.logs
        results = cluster.results

    assert row(results, lost.pid)["state"] == "lost"
    watched = [
        {int(loop["process"].rpartition(":")[2]) for loop in metric["event_loops"] if loop["name"] == "generator"}
        for metric in results["metrics"]
    ]
    assert watched == [{lost.pid, left.pid}, {left.pid}]


def test_a_suite_without_any_worker_left_ends_by_itself(tmp_path: Path, stack: DemoStack) -> None:
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_CHAT_SUSTAIN": "60s", "ASYNCLOAD_SCENARIOS": "chat,redis"}
    with Cluster(tmp_path, "suite.py", workers=2, settings=settings) as cluster:
        eventually(lambda: read_ledger(stack)["chat"]["received"] > 20, 60)
        time.sleep(2 * REPORT_INTERVAL_S)
        for node in cluster.workers:
            node.send(signal.SIGKILL)
        assert cluster.wait(40) == 4, cluster.logs
        results = cluster.results

    assert results["run"]["status"] == "incomplete"
    assert [worker["state"] for worker in results["workers"]] == ["lost", "lost"]
    assert phases(results)["chat/few"]["total_requests"] > 0
    assert imbalances(results) == []


def test_a_run_without_any_worker_left_ends_by_itself(tmp_path: Path, stack: DemoStack) -> None:
    with start(tmp_path, stack) as cluster:  # which Locust would never end
        for node in cluster.workers:
            node.send(signal.SIGKILL)
        assert cluster.wait(40) == 4, cluster.logs
        results = cluster.results

    assert results["run"]["status"] == "incomplete"
    assert [worker["state"] for worker in results["workers"]] == ["lost", "lost", "lost"]
    assert "Traceback" not in cluster.master.output


def test_the_load_stops_and_a_checkpoint_stays_when_the_master_is_killed(tmp_path: Path, stack: DemoStack) -> None:
    with start(tmp_path, stack) as cluster:
        eventually(lambda: list(cluster.out.glob("checkpoint_*.json")), 20)
        (checkpoint,) = cluster.out.glob("checkpoint_*.json")
        eventually(lambda: operations(json.loads(checkpoint.read_text()), "POST"), 20)
        cluster.master.send(signal.SIGKILL)
        killed_s = time.monotonic()
        before = sum(by_process(read_ids(stack), "answered").values())
        time.sleep(9.5 - (time.monotonic() - killed_s))
        received = read_ledger(stack)["chat"]["received"]
        time.sleep(1.5)
        assert read_ledger(stack)["chat"]["received"] == received, "the load goes on"

    results = json.loads(checkpoint.read_text())
    assert results["run"]["status"] == "partial"
    assert results["run"]["status_reasons"] == ["this is a checkpoint: the run had not ended"]
    assert not results["generator"]["valid"]  # no worker has said yet how it did
    assert 0 < operations(results, "POST") <= before
    command = [sys.executable, "-m", "asyncload_lib", "report", str(checkpoint)]
    made = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert made.returncode == 0, made.stderr
    (markdown,) = (line for line in made.stdout.split() if line.endswith(".md"))
    assert "partial" in Path(markdown).read_text().lower()


def test_a_run_whose_master_was_paused_for_too_long_is_incomplete(tmp_path: Path, stack: DemoStack) -> None:
    with start(tmp_path, stack, "-t", "8s") as cluster:
        cluster.master.send(signal.SIGSTOP)
        eventually(lambda: all("has fallen silent" in node.output for node in cluster.workers), SILENCE_S + 5)
        cluster.master.send(signal.SIGCONT)
        assert cluster.wait() == 4, cluster.logs
        results = cluster.results

    reasons = results["run"]["status_reasons"]
    assert len(reasons) == len(cluster.workers), reasons
    assert all("stopped its load" in reason and "had not heard the master" in reason for reason in reasons)
    assert differences(results, read_ledger(stack)) == []


def test_a_suite_has_a_checkpoint_while_its_users_still_gather(tmp_path: Path, stack: DemoStack) -> None:
    locustfile = tmp_path / "slow_start.py"
    locustfile.write_text(
        "import gevent\n"
        "from locust import events\n"
        "from locust.runners import WorkerRunner\n"
        "from asyncload_lib.suite import *\n"
        "@events.test_start.add_listener\n"
        "def wait(environment, **_):\n"
        "    if isinstance(environment.runner, WorkerRunner):\n"
        "        gevent.sleep(15)\n"
    )
    settings = {**QUICK, **target_settings(stack), "ASYNCLOAD_SCENARIOS": "chat"}
    with Cluster(tmp_path / "cluster", locustfile, workers=1, settings=settings) as cluster:
        cluster.expect("[1/1]")
        eventually(lambda: list(cluster.out.glob("checkpoint_*.json")), 30)
        (checkpoint,) = cluster.out.glob("checkpoint_*.json")
        first = checkpoint.stat().st_mtime_ns
        eventually(lambda: checkpoint.stat().st_mtime_ns > first, 30)
        assert read_ledger(stack)["chat"]["received"] == 0, cluster.logs
        results = json.loads(checkpoint.read_text())

    assert results["run"]["status"] == "partial"


def test_a_master_that_waits_for_workers_can_be_ended(tmp_path: Path, stack: DemoStack) -> None:
    with Cluster(tmp_path, "chat.py", *USERS, workers=1, settings={**QUICK, **target_settings(stack)}) as waiting:
        waiting.workers[0].end()
        eventually(lambda: "asyncload" in waiting.master.output or "Starting Locust" in waiting.master.output)
        time.sleep(2)
        waiting.master.send(signal.SIGTERM)
        assert waiting.wait(10) == 143, waiting.logs
    assert "Traceback" not in waiting.master.output
    assert read_ledger(stack)["chat"]["received"] == 0
