"""What the one who directs makes of what the others say."""

from types import SimpleNamespace

import pytest
from locust import User
from locust.env import Environment
from locust.runners import WorkerNode

from asyncload_lib.run.coordinator import Coordinator
from asyncload_lib.run.members import Member

MS = 1_000_000


def member(name: str, released_ms: int, first_ms: float | None, last_ms: float | None, offset_ms: int = 0) -> Member:
    starts_us = {
        f"{which}_start_us": None if delay_ms is None else delay_ms * 1e3
        for which, delay_ms in (("first", first_ms), ("last", last_ms))
    }
    return Member(name, offset_ns=offset_ms * MS, final={"released_ns": released_ms * MS, **starts_us})


@pytest.mark.parametrize(
    ("members", "skew_s"),
    [
        ([member("a", 100, 0.0, 3.0)], 0.003),
        ([member("a", 100, 0.0, 3.0), member("b", 1100, 1.0, 5.0, offset_ms=1000)], 0.005),
        ([member("a", 100, 0.0, 3.0), member("without users", 180, None, None)], 0.003),
        ([member("without users", 100, None, None)], None),
    ],
)
def test_the_start_skew_is_that_of_users_on_one_clock(members: list[Member], skew_s: float | None) -> None:
    environment = Environment(user_classes=[type("Nobody", (User,), {})])
    environment.create_local_runner()
    coordinator = Coordinator(environment)
    coordinator.members = {member.id: member for member in members}
    assert coordinator.start_skew_s() == (None if skew_s is None else pytest.approx(skew_s))


@pytest.mark.parametrize(("hello", "silent"), [({}, []), ({"pid": 1}, ["late"])])
def test_a_late_worker_that_is_still_starting_is_not_waited_for(
    hello: dict[str, int], silent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncload_lib.run.coordinator.FINAL_GRACE_S", 0.1)
    environment = Environment(user_classes=[type("Nobody", (User,), {})])
    environment.create_local_runner()
    coordinator = Coordinator(environment)
    coordinator.members = {"late": Member("late", hello, is_late=True)}
    coordinator.start_test("phase")
    assert [member.id for member in coordinator.finalise(stop=False)] == silent


def test_what_a_member_found_before_it_was_watched_anew_is_of_another_scenario() -> None:
    environment = Environment(user_classes=[type("Nobody", (User,), {})])
    environment.create_local_runner()
    coordinator = Coordinator(environment)
    coordinator.begin("run")
    (member,) = coordinator.members.values()
    member.hello = {"pid": 1}

    def say(token: int, exceptions: int, *, farewell: bool = False) -> None:
        data = {"token": token, "farewell": farewell, "run_id": "run", "exceptions": {"E": exceptions}, "health": token}
        coordinator._on_final(SimpleNamespace(node_id=member.id, data=data))

    coordinator._token = 1
    say(1, exceptions=2)
    assert member.watched["health"] == 1
    coordinator.watch()
    assert member.watched == {}
    say(1, exceptions=3)  # it slept through the end of the scenario before
    assert (member.watched, member.final["exceptions"]) == ({}, {"E": 3})
    coordinator._token = 2
    say(2, exceptions=4)
    assert (member.watched["health"], member.final["exceptions"]) == (2, {"E": 4})
    coordinator.watch()
    say(0, exceptions=5, farewell=True)
    assert (member.watched["health"], member.final["exceptions"]) == (0, {"E": 5})


def test_how_a_worker_introduced_itself_is_kept_as_long_as_it_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncload_lib.run.coordinator.HELLO_LIMIT_S", 0.1)
    environment = Environment(user_classes=[type("Nobody", (User,), {})])
    runner = environment.create_master_runner("127.0.0.1", 0)
    coordinator = Coordinator(environment)
    for name in ("connected", "stopped", "gone"):
        coordinator._on_hello(SimpleNamespace(node_id=name, data={"pid": 1}))
    runner.clients["connected"] = WorkerNode("connected")
    coordinator.members = {"stopped": Member("stopped")}
    try:
        coordinator.begin("run")
        assert coordinator._hellos.keys() == {"connected", "stopped"}
        runner.clients["stopped"] = WorkerNode("stopped")
        coordinator._member("stopped")
        assert coordinator.members["stopped"].hello == {"pid": 1}
    finally:
        runner.quit()
