"""The limit of a stall is the run's, in the target's process too."""

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.locust_run import LocustRun, target_settings


@pytest.fixture(scope="module")
def blocking() -> Iterator[DemoStack]:
    with DemoStack(mode="blocking", model_time_s=0.03, network_delay_s=0.001) as stack:
        yield stack


def test_the_target_is_watched_under_the_limit_of_the_run(tmp_path: Path, blocking: DemoStack) -> None:
    """That such a target blocks under the usual limit is shown by test_suite."""
    settings = {
        **target_settings(blocking),
        "ASYNCLOAD_CHAT_SUSTAIN": "0",
        "ASYNCLOAD_SCENARIOS": "chat",
        "ASYNCLOAD_CHAT_USERS": "3",
        "ASYNCLOAD_BASELINE_ENABLED": "false",
        "ASYNCLOAD_LOOP_LIMIT": "5s",
    }
    with LocustRun("suite.py", "--headless", out=tmp_path / "reports", settings=settings) as run:
        run.wait()
        (metric,) = run.results["metrics"]

    (target,) = (loop for loop in metric["event_loops"] if loop["name"] == "target")
    assert (target["limit_s"], target["period_s"]) == (5.0, 0.003)
    assert target["blocked"] is False
    assert metric["event_loop_blocked"] is False
    row = next(row for row in run.results["criteria"] if re.match("chat max_stall", row["name"]))
    assert row["verdict"] == "pass"


ONE_BY_ONE = dedent("""\
    import asyncio, itertools
    from locust import constant, task
    from asyncload_lib import AsyncHttpUser

    turns = itertools.count()

    class Patient(AsyncHttpUser):
        wait_time = constant(100)

        async def on_start(self):
            await asyncio.sleep(0.1 * next(turns))

        @task
        async def ask(self):
            await self.client.post("/api/chat", json={"message": "hello", "session_id": "one"})
""")


@pytest.mark.chance
def test_from_outside_users_who_wait_are_not_taken_for_a_queue(tmp_path: Path, blocking: DemoStack) -> None:
    """Of forty users one asks at a time: how late an answer is shows how long one blocks."""
    path = tmp_path / "one_by_one.py"
    path.write_text(ONE_BY_ONE)
    settings = target_settings(blocking)
    del settings["ASYNCLOAD_LOOP_PROBE_TOKEN"]
    options = ("--headless", "-u", "40", "-r", "40", "-t", "5s")
    with LocustRun(path, *options, out=tmp_path / "reports", settings=settings) as run:
        run.wait()
        (metric,) = run.results["metrics"]

    (outside,) = (loop for loop in metric["event_loops"] if loop["name"] == "target (outside)")
    assert outside["blocked"] is True, outside["note"]
    assert outside["proven_stall"] > 0.01
