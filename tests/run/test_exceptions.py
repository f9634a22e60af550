"""What a user's own code raises: load that was not made is no load that passed."""

import re
import textwrap
from pathlib import Path

import pytest

from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.report.numbers import counted
from tests.distributed.cluster import free_port
from tests.locust_run import LocustRun, target_settings
from tests.run.test_endings import master_at

pytestmark = pytest.mark.chance

TASK = """
    from locust import HttpUser, constant, task
    from asyncload_lib import AsyncHttpUser
    class Broken({base}):
        wait_time = constant(0.05)
        @task
        {kind}def half(self):
            answer = {wait}self.client.get("/api/health")
            answer.json()["nothing of this name"]
            {wait}self.client.get("/api/never")
"""


@pytest.mark.parametrize(
    ("base", "kind", "wait", "processes"), [("AsyncHttpUser", "async ", "await ", 1), ("HttpUser", "", "", 2)]
)
def test_a_task_that_breaks_off_makes_the_run_incomplete(
    base: str, kind: str, wait: str, processes: int, tmp_path: Path, stack: DemoStack
) -> None:
    locustfile = tmp_path / "broken.py"
    locustfile.write_text(textwrap.dedent(TASK.format(base=base, kind=kind, wait=wait)))
    options = ["--headless", "-u", "2", "-r", "2", "-t", "1s"]
    options += ["--processes", "2", *master_at(free_port())] if processes > 1 else []
    with LocustRun(locustfile, *options, out=tmp_path / "reports", settings=target_settings(stack)) as run:
        assert run.wait(60) == 4, run.output
        results = run.results

    (metric,) = results["metrics"]
    assert {endpoint["name"] for endpoint in metric["endpoints"]} == {"/api/health"}
    assert metric["failed_requests"] == 0
    times = metric["total_requests"]
    assert results["run"]["status_reasons"] == [
        f"a task was cut short by an exception {counted(times, 'time')}: Broken: KeyError: 'nothing of this name'"
    ]
    assert "KeyError" in (tmp_path / "reports" / "latest.md").read_text()


SUITE = """
    import asyncload_lib.suite
    from asyncload_lib.suite import *
    class RedisOperation(asyncload_lib.suite.RedisOperation):
        async def perform(self, ordinal, at_ns):
            if ordinal % 10 == 0:
                {instead}
            await super().perform(ordinal, at_ns)
"""


@pytest.mark.parametrize(
    ("instead", "reasons"),
    [
        ("return", []),
        ("raise LookupError('no way')", ["a task was cut short by an exception 10 times: "]),
    ],
)
def test_a_phase_of_which_a_part_was_not_done_makes_the_run_incomplete(
    instead: str, reasons: list[str], tmp_path: Path, stack: DemoStack
) -> None:
    locustfile = tmp_path / "lazy.py"
    locustfile.write_text(textwrap.dedent(SUITE.format(instead=instead)))
    settings = {
        **target_settings(stack), "ASYNCLOAD_SCENARIOS": "redis", "ASYNCLOAD_BASELINE_ENABLED": "false",
    }  # fmt: skip
    with LocustRun(locustfile, "--headless", out=tmp_path / "reports", settings=settings) as run:
        assert run.wait(60) == 4, run.output
        results = run.results

    expected = [*reasons, "redis/burst: only 90 of 100 operations were started"]
    found = results["run"]["status_reasons"]
    assert [reason[: len(start)] for reason, start in zip(found, expected, strict=True)] == expected
    assert results["metrics"][0]["total_requests"] == 90


CREATED = """
    import gevent
    from locust import constant, task
    from asyncload_lib import AsyncHttpUser
    class Sound(AsyncHttpUser):
        fixed_count = 1
        wait_time = constant(0.05)
        @task
        async def ask(self):
            await self.client.get("/api/health")
    class Broken(Sound):
        fixed_count = 0
        def __init__(self, environment):
            super().__init__(environment)
            raise FileNotFoundError("fixture.csv")
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_users_that_cannot_be_created_make_the_run_incomplete(processes: int, tmp_path: Path, stack: DemoStack) -> None:
    locustfile = tmp_path / "created.py"
    locustfile.write_text(textwrap.dedent(CREATED))
    options = ["--headless", "-u", "6", "-r", "2", "-t", "3s"]
    options += ["--processes", "2", *master_at(free_port())] if processes > 1 else []
    with LocustRun(locustfile, *options, out=tmp_path / "reports", settings=target_settings(stack)) as run:
        assert run.wait(60) == 4, run.output
        results = run.results

    assert results["metrics"][0]["failed_requests"] == 0
    assert "not all users could be created: FileNotFoundError: fixture.csv" in results["run"]["status_reasons"]


SLOW = """
    import gevent
    from locust import constant, task
    from asyncload_lib import AsyncHttpUser
    class Slow(AsyncHttpUser):
        wait_time = constant(0.2)
        def __init__(self, environment):
            super().__init__(environment)
            gevent.sleep(0.8)
        @task
        async def ask(self):
            await self.client.get("/api/health")
"""


def test_what_is_measured_on_a_worker_begins_when_its_users_are_there(tmp_path: Path, stack: DemoStack) -> None:
    locustfile = tmp_path / "slow.py"
    locustfile.write_text(textwrap.dedent(SLOW))
    options = ["--headless", "-u", "6", "-r", "3", "-t", "8s", "--processes", "2", *master_at(free_port())]
    with LocustRun(locustfile, *options, out=tmp_path / "reports", settings=target_settings(stack)) as run:
        run.wait(60)
        results = run.results

    (metric,) = results["metrics"]
    assert "Spawning is complete and report waittime is expired" in run.output  # else it shows nothing
    assert [(phase["phase"], phase["concurrency"]) for phase in metric["phases"]] == [("ramp", 0), ("run", 6)]


RAMP = """
    from locust import constant, task
    from asyncload_lib import AsyncHttpUser
    class Person(AsyncHttpUser):
        wait_time = constant(0.05)
        persons = 0
        async def on_start(self):
            Person.persons += 1
            await self.client.get("/api/never" if Person.persons == 1 else "/api/health")
        @task
        async def ask(self):
            await self.client.get("/api/health")
"""


def test_a_request_that_fails_in_the_ramp_is_a_failure_where_nothing_is_judged(
    tmp_path: Path, stack: DemoStack
) -> None:
    locustfile = tmp_path / "ramp.py"
    locustfile.write_text(textwrap.dedent(RAMP))
    settings = {**target_settings(stack), "ASYNCLOAD_CRITERIA_DEFAULTS": "false"}
    options = ["--headless", "-u", "3", "-r", "1", "-t", "4s"]
    with LocustRun(locustfile, *options, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait(60) == 1, run.output
        results = run.results

    (metric,) = results["metrics"]
    assert {phase["phase"]: phase["failed_requests"] for phase in metric["phases"]} == {"ramp": 1, "run": 0}
    total = sum(phase["total_requests"] for phase in metric["phases"])
    assert f"FAIL: No criterion was evaluated; 1 of {total:,} requests failed." in run.output
    for phase in metric["phases"]:
        assert phase["started_requests"] == phase["total_requests"] + phase["abandoned_requests"]


def test_a_run_that_ends_before_its_users_are_all_there_is_no_pass(tmp_path: Path, stack: DemoStack) -> None:
    locustfile = tmp_path / "slow.py"
    locustfile.write_text(
        textwrap.dedent("""\
            import gevent
            from locust import constant, task
            from asyncload_lib import AsyncHttpUser
            class Slow(AsyncHttpUser):
                wait_time = constant(0.1)
                made = 0
                def __init__(self, environment):
                    super().__init__(environment)
                    Slow.made += 1
                    if Slow.made == 3:
                        gevent.sleep(60)
                @task
                async def ask(self):
                    await self.client.get("/api/health")
        """)
    )
    lenient = {"ASYNCLOAD_CRITERIA_DEFAULTS": "false", "ASYNCLOAD_CRITERIA": "run max_stall < 100 s"}
    options = ("--headless", "-u", "3", "-r", "2", "-t", "3s")
    settings = {**target_settings(stack), **lenient}
    with LocustRun(locustfile, *options, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait() == 4, run.output
        results = run.results

    assert results["run"]["status_reasons"] == ["the run ended while users were still being spawned"]
    (metric,) = results["metrics"]
    assert [phase["phase"] for phase in metric["phases"] if phase["total_requests"]] == ["ramp"]


def test_a_run_of_which_nothing_was_asked_ends_as_in_locust_and_claims_no_pass(
    tmp_path: Path, stack: DemoStack
) -> None:
    settings = {**target_settings(stack), "ASYNCLOAD_CRITERIA_DEFAULTS": "false"}
    options = ["--headless", "-u", "1", "-r", "1", "-t", "1s"]
    with LocustRun("chat.py", *options, out=tmp_path / "reports", settings=settings) as run:
        assert run.wait(60) == 0, run.output
        summary = run.results["summary"]

    assert (summary["verdict"], summary["all_passed"]) == ("not evaluated", False)
    assert re.search(r"^NOT EVALUATED: No criterion was evaluated; 0 of \d+ requests? failed", run.output, re.M)
    assert "PASS" not in run.output
