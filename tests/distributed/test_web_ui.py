"""Runs that a person starts and stops in Locust's web UI on a master: each has its own report."""

import contextlib
import json
import signal
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.distributed.accounts import differences, phases, read_ledger
from tests.distributed.cluster import QUICK, Cluster, free_port
from tests.locust_run import LocustRun, eventually, target_settings

pytestmark = [pytest.mark.chance, pytest.mark.timeout(180)]


def ask(url: str, **form: str) -> dict[str, Any]:
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, data, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def test_runs_started_and_stopped_by_hand_have_a_report_each(tmp_path: Path, stack: DemoStack) -> None:
    """Of the first the host is changed while workers run: that is incomplete, and its alone."""
    port = free_port()
    web = f"http://127.0.0.1:{port}"
    settings = {**QUICK, **target_settings(stack)}
    arguments = ("--web-host", "127.0.0.1", "--web-port", str(port), "-H", stack.host)

    def stopped(number: int) -> dict[str, Any]:
        """Stop the run and return its results, which are the newest of `number`."""
        ask(f"{web}/stop", now="yes")
        eventually(lambda: len(list(cluster.out.glob("*_report_*.xml"))) == number, 60)
        results: dict[str, Any] = json.loads((cluster.out / "latest.json").read_text())
        return results

    with Cluster(tmp_path, "chat.py", *arguments, workers=2, settings=settings) as cluster:
        eventually(lambda: is_up(web), 60)
        eventually(lambda: len(ask(f"{web}/stats/requests")["workers"]) == 2, 60)
        assert ask(f"{web}/swarm", user_count="2", spawn_rate="2")["success"], cluster.logs
        eventually(lambda: ask(f"{web}/stats/requests")["user_count"] == 2, 60)
        ask(f"{web}/swarm", user_count="4", spawn_rate="2", host=stack.blocking_host)
        eventually(lambda: ask(f"{web}/stats/requests")["user_count"] == 4, 60)
        results = stopped(1)
        assert results["run"]["status"] == "incomplete"
        (reason,) = (text for text in results["run"]["status_reasons"] if "host was changed" in text)
        assert stack.host in reason
        assert stack.blocking_host in reason
        for number in (2, 3):
            stack.reset_ledger()
            assert ask(f"{web}/swarm", user_count="6", spawn_rate="6", host=stack.host)["success"], cluster.logs
            eventually(lambda: read_ledger(stack)["chat"]["received"] > 30, 60)
            results = stopped(number)
            assert results["run"]["status"] == "complete", results["run"]["status_reasons"]
            assert phases(results)["chat/run"]["total_requests"] > 30
            assert differences(results, read_ledger(stack)) == []
        cluster.master.send(signal.SIGTERM)
        assert cluster.wait(30) in (0, 3), cluster.logs
        cluster.wait_workers()
        assert len(list(cluster.out.glob("async_load_test_results_*.json"))) == 3


SLOW = dedent("""\
    from locust import constant, task
    from asyncload_lib import AsyncHttpUser
    class Slow(AsyncHttpUser):
        wait_time = constant(0)
        @task
        async def ask(self):
            await self.client.post("/api/chat", json={"message": "hello"})
    """)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_started_while_the_one_before_ends_is_a_run_of_its_own(workers: int, tmp_path: Path) -> None:
    """START that comes too early waits; tests/run/test_web_start.py has it refused where that takes too long."""
    port, locustfile = free_port(), tmp_path / "slow.py"
    web = f"http://127.0.0.1:{port}"
    locustfile.write_text(SLOW)
    arguments = ("--web-host", "127.0.0.1", "--web-port", str(port), "--asyncload-demo-model-time", "4s")
    with contextlib.ExitStack() as stack:
        if workers:
            cluster = stack.enter_context(Cluster(tmp_path, locustfile, *arguments, workers=workers))
            out = cluster.out
        else:
            out = tmp_path / "reports"
            stack.enter_context(LocustRun(locustfile, *arguments, out=out, settings=QUICK))
        eventually(lambda: is_up(web), 60)
        eventually(lambda: len(ask(f"{web}/stats/requests").get("workers", ())) == workers, 60)

        def start(users: int) -> dict[str, Any]:
            return ask(f"{web}/swarm", user_count=str(users), spawn_rate="100")

        assert start(4)["success"]
        eventually(lambda: ask(f"{web}/stats/requests")["user_count"] == 4, 60)
        stop = threading.Thread(target=ask, args=(f"{web}/stop",), kwargs={"now": "yes"})
        stop.start()
        time.sleep(0.5)  # a person's pause, amid the stop: the users' first requests take 4 s
        answer = start(6)
        stop.join()
        assert answer["success"], answer
        eventually(lambda: ask(f"{web}/stats/requests")["user_count"] == 6)
        ask(f"{web}/stop", now="yes")
        eventually(lambda: ask(f"{web}/stats/requests")["user_count"] == 0)
        documents = [json.loads(path.read_text()) for path in sorted(out.glob("async_load_test_results_*.json"))]

    assert [document["run"]["status"] for document in documents] == ["complete"] * 2
    assert [document["metrics"][0]["concurrency"] for document in documents] == [4, 6]
