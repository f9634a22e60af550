"""Users under the real `locust` command: its options, its web UI, its processes, and other people's user classes."""

import json
import re
import signal
import socket
import urllib.parse
import urllib.request
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.locust_run import LocustRun, eventually

pytestmark = pytest.mark.chance

QUIET = {"ASYNCLOAD_GENERATOR_MAX_LOOP_LAG": "10s", "ASYNCLOAD_GENERATOR_MAX_HUB_LAG": "10s"}
"""A busy test machine is no reason to call these runs invalid."""

FOUR_KINDS = """
import itertools, logging, os
from locust import FastHttpUser, HttpUser, constant, tag, task
from asyncload_lib import AsyncHttpUser, AsyncUser

numbers = itertools.count()

def identity(kind):
    return {"x-request-id": f"PREFIX-{kind}-{os.getpid()}-{next(numbers)}"}

class Ours(AsyncHttpUser):
    wait_time = constant(0.02)

    @tag("yes")
    @task
    async def ask(self):
        logging.getLogger("mine").info("asking on the loop")
        await self.client.get("/slow/5", name="ours", headers=identity("ours"))

    @task(50)
    async def untagged(self):
        await self.client.get("/echo", name="untagged")

class Measured(AsyncUser):
    wait_time = constant(0.02)

    @tag("yes")
    @task
    async def work(self):
        async with self.measure("X", "measured"):
            pass
        raise ValueError("broken task")

class Plain(HttpUser):
    wait_time = constant(0.02)

    @tag("yes")
    @task
    def ask(self):
        logging.getLogger("mine").info("asking on the hub")
        self.client.get("/slow/5", name="plain", headers=identity("plain"))

class Fast(FastHttpUser):
    wait_time = constant(0.02)

    @tag("yes")
    @task
    def ask(self):
        self.client.get("/slow/5", name="fast", headers=identity("fast"))
"""


def locustfile(directory: Path, text: str) -> Path:
    path = directory / "locustfile.py"
    path.write_text(text)
    return path


def ask(url: str, form: dict[str, Any] | None = None) -> Any:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=30) as answer:
        return json.load(answer)


def ids(target: str, prefix: str) -> dict[str, str]:
    return {name: state for name, state in ask(f"{target}/ledger").items() if name.startswith(prefix)}


def test_every_kind_of_user_reaches_the_report_and_the_counts_are_the_targets(tmp_path: Path, target: str) -> None:
    prefix = "four"
    path = locustfile(tmp_path, FOUR_KINDS.replace("PREFIX", prefix))
    options = ["--headless", "-u", "16", "-r", "16", "-t", "3s", "-H", target, "--tags", "yes"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    options += ["--processes", "2", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    with LocustRun(path, *options, out=tmp_path / "reports", settings=QUIET) as run:
        assert run.wait(60) == 4, run.output  # for a task that is broken
        (metric,) = run.results["metrics"]

    counted = {row["name"]: row["total_requests"] for row in metric["endpoints"]}
    assert counted.keys() == {"ours", "plain", "fast", "measured"}  # and nothing that is not tagged
    assert min(counted.values()) > 0
    received = ids(target, prefix)
    assert "twice" not in received.values()
    for kind in ("ours", "plain", "fast"):
        assert counted[kind] == sum(name.startswith(f"{prefix}-{kind}-") for name in received)
    assert metric["started_requests"] == metric["total_requests"] + metric["abandoned_requests"]
    assert metric["failed_requests"] == 0
    by_process = Counter(name.split("-")[2] for name in received)
    assert len(by_process) == 2
    assert "broken task" in run.output
    assert [worker["operations"] > 0 for worker in run.results["workers"]] == [True, True]


WEB = """
from locust import constant, task
from asyncload_lib import AsyncHttpUser

class Person(AsyncHttpUser):
    wait_time = constant(0.01)

    @task
    async def ask(self):
        await self.client.get("/echo")

    @task
    async def fail(self):
        raise ValueError("broken task")
"""


def test_the_web_ui_starts_changes_and_stops_users_and_shows_their_exceptions(tmp_path: Path, target: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-H", target, "--web-host", "127.0.0.1", "--web-port", str(port), "--stop-timeout", "2"]
    with LocustRun(locustfile(tmp_path, WEB), *options, out=tmp_path / "reports", settings=QUIET) as run:
        base = f"http://127.0.0.1:{port}"
        run.expect("Starting web interface")
        eventually(lambda: _answers(base))

        def has_users(count: int) -> bool:
            return bool(ask(f"{base}/stats/requests")["user_count"] == count)

        for count in (3, 8, 2):  # start, more, fewer
            assert ask(f"{base}/swarm", {"user_count": count, "spawn_rate": 100})["success"]
            eventually(partial(has_users, count))
        eventually(lambda: ask(f"{base}/stats/requests")["stats"][-1]["num_requests"] > 20)
        rows = eventually(lambda: ask(f"{base}/exceptions")["exceptions"])
        assert [row["msg"] for row in rows] == ["broken task"]
        assert rows[0]["count"] > 1
        assert "in fail" in rows[0]["traceback"]
        ask(f"{base}/stop", {})
        eventually(partial(has_users, 0))
        run.send(signal.SIGINT)
        assert run.wait(30) == 4, run.output
        assert "stopping;" not in run.output  # there was nothing left to end
        metric = run.results["metrics"][0]
    assert metric["started_requests"] == metric["total_requests"] + metric["abandoned_requests"]


def _answers(base: str) -> bool:
    try:
        ask(f"{base}/stats/requests")
    except OSError:
        return False
    return True


def test_a_definition_that_makes_no_sense_ends_the_command_with_its_sentence(tmp_path: Path, target: str) -> None:
    text = WEB.replace("    async def ask", "    def ask").replace("await ", "")
    options = ["--headless", "-t", "1s", "-H", target]
    with LocustRun(locustfile(tmp_path, text), *options, out=tmp_path / "reports") as run:
        assert run.wait(30) not in (0, 3), run.output
    assert "TypeError: Person: task ask is a plain function; write `async def ask`" in run.output
    assert not (tmp_path / "reports").exists()


QUIT = """
from locust import task
from asyncload_lib import AsyncHttpUser

class Person(AsyncHttpUser):
    @task
    async def ask(self):
        await self.client.get("/echo")
        self.on_hub(self.environment.runner.quit)
        await self.client.get("/hang")
"""


def test_a_task_can_end_the_run_and_the_report_is_written(tmp_path: Path, target: str) -> None:
    options = ["--headless", "-u", "3", "-r", "3", "-H", target, "--stop-timeout", "1"]
    with LocustRun(locustfile(tmp_path, QUIT), *options, out=tmp_path / "reports", settings=QUIET) as run:
        assert run.wait(30) in (0, 1, 3, 4), run.output
        (metric,) = run.results["metrics"]
    assert metric["total_requests"] >= 1
    assert metric["abandoned_requests"] >= 1
    assert metric["started_requests"] == metric["total_requests"] + metric["abandoned_requests"]
    assert not re.search(r"Traceback", run.output), run.output
