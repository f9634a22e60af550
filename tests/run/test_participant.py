"""What a process of a run reports: every start, the lateness of every phase, and nothing from before its test."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser

from asyncload_lib.results.text import OTHER
from asyncload_lib.run.health import ProcessHealth
from asyncload_lib.run.messages import PLAN, ToCoordinator
from asyncload_lib.run.participant import MAX_EXCEPTIONS, Participant
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users import events
from asyncload_lib.users.base import loop_thread
from asyncload_lib.users.http import AsyncHttpUser
from asyncload_lib.users.measure import tally
from tests.users.swarm import Swarm


class Sent(Participant):
    """A participant whose messages are kept instead of sent."""

    def __init__(self, environment: Environment) -> None:
        self.sent: list[tuple[str, Any]] = []
        super().__init__(environment, Settings(), Target(), ProcessHealth(loop_thread(), Settings()))

    def send(self, message: str, data: Any) -> bool:
        self.sent.append((message, data))
        return True

    def last(self, message: str) -> Any:
        """Return the newest message of this kind."""
        return [data for kind, data in self.sent if kind == message][-1]

    def announce(self, phase: str, *, gated: bool, run_id: str = "run") -> None:
        """Tell of the next test as Locust does."""
        plan = {"run_id": run_id, "phase": phase, "gated": gated, "timeout_s": 1.0, "target": None}
        options = type("Options", (), {PLAN: plan})()
        self.environment.parsed_options = options
        self.on_test_start(self.environment)

    def start_late(self, *delays_us: float) -> None:
        """Have users released now, and begin so much later."""
        self._on_released(1)
        for delay_us in delays_us:
            events.request_metrics.fire(environment=self.environment, request="x", metrics={"send_delay": [delay_us]})


@pytest.fixture
def participant() -> Iterator[Sent]:
    class Nobody(User):
        pass

    environment = Environment(user_classes=[Nobody])
    environment.create_local_runner()
    made = Sent(environment)
    yield made
    made.health.stop()
    made.close()


def final(participant: Sent) -> Any:
    participant.finalise(1)
    return participant.last(ToCoordinator.FINAL)


def test_the_send_delay_of_every_phase_of_a_scenario_is_judged(participant: Sent) -> None:
    participant._on_watch()
    participant.announce("chat/burst", gated=True)
    participant.start_late(*[300_000.0] * 50)
    assert final(participant)["last_start_us"] == 300_000
    participant.announce("chat/sustained", gated=True)
    found = final(participant)
    assert found["health"]["send_delay_p99"] == pytest.approx(0.3)
    assert found["last_start_us"] is None  # the skew is that of the phase alone

    participant._on_watch()
    participant.announce("redis/burst", gated=True)
    participant.start_late(1_000.0)
    assert final(participant)["health"]["send_delay_p99"] == pytest.approx(0.001)


def test_a_second_run_without_scenarios_knows_nothing_of_the_first(participant: Sent) -> None:
    participant.announce("run", gated=False)
    participant.health._cpu_max = 99.0
    gevent.sleep(0.05)
    watched_s = [loop["watched_s"] for loop in final(participant)["health"]["event_loops"]]
    participant.announce("run", gated=False)
    found = final(participant)["health"]
    assert found["cpu_percent_max"] < 99.0
    assert all(loop["watched_s"] < before_s for loop, before_s in zip(found["event_loops"], watched_s, strict=True))


def test_a_server_that_keeps_connections_longer_in_a_second_run_is_not_reconnected_to(
    participant: Sent, target: str
) -> None:
    ports: list[str] = []

    class Person(AsyncHttpUser):
        host = target
        path = ""

        @task
        async def ask_twice(self) -> None:
            ports.append((await self.client.get(self.path)).text)
            await asyncio.sleep(1.3)
            ports.append((await self.client.get(self.path)).text)
            raise StopUser

    for run_id, Person.path in (("first", "/resting/1000"), ("second", "/resting/9000")):  # after so many ms it closes
        participant.announce("run", gated=False, run_id=run_id)
        with Swarm(Person) as swarm:
            swarm.run()
    assert [ports[0] == ports[1], ports[2] == ports[3]] == [False, True]


def test_what_was_started_is_reported_where_no_user_is_async(participant: Sent) -> None:
    participant.announce("run", gated=False)
    for _ in range(3):
        participant.recorder.on_request("GET", "/", 5.0, 2)  # as an HttpUser's requests come
    participant._send_parts()
    assert participant.last(ToCoordinator.PART)["phases"]["run"]["started"] == 3


@pytest.mark.parametrize("exception", [None, "", False, "refused", ValueError()], ids=repr)
def test_a_request_failed_where_locust_says_so(participant: Sent, exception: Any) -> None:
    participant.announce("run", gated=False)
    event = {"request_type": "GET", "name": "/", "response_time": 5.0, "response_length": 2}
    participant.environment.events.request.fire(**event, exception=exception)
    stats, (phase,) = participant.environment.stats, participant.recorder.results().values()
    assert (phase.failed_count, phase.ok_count) == (stats.num_failures, stats.num_requests - stats.num_failures)
    assert sum(phase.errors.values()) == stats.num_failures


@pytest.mark.parametrize(("missing", "told"), [(0, ""), (1, "TimeoutError: no account is free")])
def test_users_that_a_later_step_of_the_ramp_has_created_are_not_missed(
    participant: Sent, missing: int, told: str
) -> None:
    def fail() -> None:
        raise TimeoutError("no account is free")

    runner = participant.environment.runner
    assert runner is not None
    participant.announce("ramp", gated=False)
    for step in (fail, lambda: None):
        runner.spawning_greenlet = gevent.spawn(step)
        runner.spawning_greenlet.join()
        participant._note_not_created()
    runner.target_user_count = runner.user_count + missing
    participant.on_spawning_complete()
    assert final(participant)["not_created"] == told


@pytest.mark.parametrize(("end", "phases"), [("join", ["ramp", "run"]), ("kill", ["ramp"])])
def test_what_is_measured_on_a_worker_does_not_begin_when_its_spawning_is_broken_off(
    participant: Sent, end: str, phases: list[str]
) -> None:
    participant.announce("ramp", gated=False)
    spawning = gevent.spawn(gevent.sleep)
    getattr(spawning, end)()
    participant._ramp_up_after(spawning, participant.recorder.run_id)
    assert list(participant.recorder.results()) == phases


def test_what_the_gate_lets_out_belongs_to_the_phase_that_it_opens(
    participant: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report may come between the release on the loop and the moment in which the hub hears of it."""
    participant.announce("chat/few", gated=True)
    participant._on_released(1)
    participant.announce("chat/burst", gated=True)
    monkeypatch.setattr(tally, "started", tally.started + 50)
    participant._send_parts()
    participant._on_released(2)
    participant._send_parts()
    phases = participant.last(ToCoordinator.PART)["phases"]
    assert {name: phase["started"] for name, phase in phases.items()} == {"chat/few": 0, "chat/burst": 50}


def test_how_far_its_users_are_is_told_again_should_it_have_been_lost(participant: Sent) -> None:
    participant.announce("chat/burst", gated=True)
    participant._on_gate(5, 0)
    participant._after_batch()
    told = participant.last(ToCoordinator.STATE)
    assert (told["phase"], told["waiting"], told["done"]) == ("chat/burst", 5, 0)
    participant.sent.clear()
    participant._after_batch()  # for which it is no news
    assert participant.sent == []
    with gevent.Timeout(5):
        while (ToCoordinator.STATE, told) not in participant.sent:
            gevent.sleep(0.05)


def test_a_phase_to_which_nobody_has_come_is_not_told_again(participant: Sent) -> None:
    """Its number of users is that of the phase before until Locust begins to spawn: the gate would open at once."""
    participant.announce("chat/few", gated=True)
    participant._on_gate(5, 5)
    participant._after_batch()
    participant.announce("chat/burst", gated=True)
    participant.sent.clear()
    with gevent.Timeout(10):
        while sum(kind is ToCoordinator.PART for kind, _ in participant.sent) < 2:  # so many reports
            gevent.sleep(0.05)
    assert ToCoordinator.STATE not in [kind for kind, _ in participant.sent]


NUMPY = """
import sys
from locust import User
from locust.env import Environment
from tests.run.test_participant import Sent
environment = Environment(user_classes=[type("Nobody", (User,), {})])
environment.create_local_runner()
participant = Sent(environment)
print("numpy" in sys.modules)
participant.announce("chat/burst", gated=True)
print("numpy" in sys.modules)
participant.close()
"""


def test_numpy_is_imported_before_users_are_released_and_not_amid_their_load() -> None:
    root = Path(__file__).parent.parent.parent
    ended = subprocess.run(
        [sys.executable, "-c", NUMPY], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout.split()) == (0, ["False", "True"]), ended.stderr


def test_what_tasks_raise_is_told_by_class_and_text_and_belongs_to_one_run(participant: Sent) -> None:
    participant.announce("chat/burst", gated=True)
    fire: Callable[..., None] = participant.environment.events.user_error.fire
    for number in range(MAX_EXCEPTIONS + 5):
        error = ValueError("cannot read line 7") if number < 3 else KeyError("x" * number)
        fire(user_instance=participant, exception=error, tb=None)
    found = final(participant)["exceptions"]
    assert found["Sent: ValueError: cannot read line #"] == 3
    assert (len(found), found[OTHER], sum(found.values())) == (MAX_EXCEPTIONS + 1, 3, MAX_EXCEPTIONS + 5)
    participant.announce("redis/burst", gated=True)
    assert final(participant)["exceptions"] == found
    participant.announce("chat/burst", gated=True, run_id="another")
    assert final(participant)["exceptions"] == {}
