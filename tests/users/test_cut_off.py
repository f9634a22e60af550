"""Requests of Locust's own HTTP users that end before their answer."""

import contextlib
from typing import Any

import gevent
import pytest
from locust import FastHttpUser, HttpUser, User, task
from locust.env import Environment

import asyncload_lib.plugin  # noqa: F401 it has the clients say what is cut off
from asyncload_lib.results.recorder import Recorder
from tests.users.swarm import derived, eventually


class SlowError(Exception):
    pass


@pytest.mark.parametrize("base", [HttpUser, FastHttpUser])
@pytest.mark.parametrize(("name", "raised"), [(None, False), ("mine", False), ("mine", SlowError("# seconds"))])
def test_a_request_that_a_timeout_of_its_task_ends_has_failed(
    base: type[User], name: str | None, raised: Any, target: str
) -> None:
    @task
    def ask(self: Any) -> None:
        with contextlib.suppress(SlowError), gevent.Timeout(0.3, raised):
            self.client.get("/hang/1", name=name, context={"kept": True})
        gevent.sleep(60)

    environment = Environment(user_classes=[derived(base, work=ask, host=target)])
    runner, recorder = environment.create_local_runner(), Recorder("run")
    told: list[dict[str, Any]] = []
    environment.events.request.add_listener(recorder.on_request)
    environment.events.request.add_listener(lambda **event: told.append(event))
    runner.start(1, 1)
    (event,) = eventually(lambda: told)
    runner.quit()

    (phase,) = recorder.results().values()
    assert (phase.started, phase.ok_count, phase.failed_count, phase.abandoned_count) == (1, 0, 1, 0)
    assert phase.failed.min_us == pytest.approx(event["response_time"] * 1e3, rel=0.01)
    assert event["response_time"] >= 300
    assert (event["request_type"], event["name"]) == ("GET", name or "/hang/1")
    assert (event["url"], event["context"]) == (f"{target}/hang/1", {"kept": True})
    ((_, _, text),) = phase.errors
    assert "# seconds" in text
    assert environment.stats.num_failures == 1
