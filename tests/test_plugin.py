"""What a run's directing node says of its processes, and how a process ends."""

import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.lock
import pytest

from asyncload_lib import suite
from asyncload_lib.errors import ExitCode
from asyncload_lib.plugin import Plugin
from asyncload_lib.run.director import BROKEN_OFF, Director
from asyncload_lib.run.members import Member
from asyncload_lib.run.session import Session
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.verdict.generator import judge_generator

HEALTH = {"process": "a:1", "cpu_percent_max": 1.0, "loop_lag_p99": 0.0, "hub_lag_p99": 0.0, "event_loops": []}


class Ending(Director):
    """A director whose steps only say that they were taken; the first of them fails."""

    def __init__(self, step: Callable[[str], Any]) -> None:
        self._signals = SimpleNamespace()  # type: ignore[assignment]
        self._source = SimpleNamespace(stop=step("demo"))  # type: ignore[assignment]
        self._observer = SimpleNamespace(stop=step("observer"))  # type: ignore[assignment]
        self._dismiss_workers = step("workers")  # type: ignore[method-assign]

    def _settle_exit_code(self) -> None:
        raise ZeroDivisionError


def test_all_steps_of_the_end_are_taken_and_the_failure_is_told() -> None:
    taken: list[str] = []

    def step(name: str) -> Callable[[], None]:
        return lambda: taken.append(name)

    plugin = Plugin.__new__(Plugin)
    plugin.environment = SimpleNamespace(runner=None)  # type: ignore[assignment]
    plugin.director = Ending(step)
    plugin.participant = SimpleNamespace(close=step("participant"))  # type: ignore[assignment]
    plugin._health = SimpleNamespace(stop=step("health"))  # type: ignore[assignment]
    plugin._closing, plugin._closed = gevent.lock.RLock(), False
    with pytest.raises(ZeroDivisionError):
        plugin.finish()

    assert taken == ["workers", "observer", "health", "participant", "demo"]


def test_a_run_that_is_interrupted_before_its_session_is_no_success() -> None:
    director = Director.__new__(Director)
    director.environment = SimpleNamespace(process_exit_code=None)  # type: ignore[assignment]
    director.session, director._refusal_code = None, None
    director.is_headless = director._starts_by_itself = True
    director._signals = SimpleNamespace(came=signal.SIGTERM)  # type: ignore[assignment]
    director._settle_exit_code()
    assert director.environment.process_exit_code == 143


def test_a_run_that_is_killed_as_it_writes_its_report_is_no_success() -> None:
    class Killed(Session):
        def results(self, *_: Any, **__: Any) -> dict[str, Any]:
            row = {"name": "run p95 < 2 s", "verdict": "pass"}
            return {"metrics": [], "criteria": [row], "run": {"status": "complete"}}

        def _write(self, results: dict[str, Any]) -> None:
            raise gevent.GreenletExit

    coordinator: Any = SimpleNamespace(end=lambda: None)
    session = Killed(Settings(), Target(), coordinator, "free", {}, lambda: None)
    with pytest.raises(gevent.GreenletExit):
        session.close()
    assert session.exit_code == ExitCode.REPORT_FAILED


def test_a_worker_that_is_told_to_end_as_it_ends_takes_its_leave_once() -> None:
    taken: list[str] = []
    plugin = Plugin.__new__(Plugin)
    plugin.environment = SimpleNamespace(runner=SimpleNamespace(stop=lambda: taken.append("stop")))  # type: ignore[assignment]
    plugin.participant = SimpleNamespace(finalise=lambda *_, **__: taken.append("finalise"))  # type: ignore[assignment]
    plugin._signals = SimpleNamespace(came=None)  # type: ignore[assignment]
    plugin._is_leaving = False
    plugin._on_worker_quitting()
    plugin._on_worker_quitting()
    assert taken == ["stop", "finalise"]


def test_a_worker_that_cannot_say_how_it_is_doing_is_named() -> None:
    director = Director.__new__(Director)
    members = {"w1": Member("w1", watched={"health": HEALTH}), "w2": Member("w2", watched={"health": None})}
    director.coordinator = SimpleNamespace(members=members)  # type: ignore[assignment]
    director._is_master = False
    limits = {"cpu_percent_max": 90.0, "loop_lag_p99": 0.1, "hub_lag_p99": 0.5, "send_delay_p99": 0.2}
    judged = judge_generator(director.health(), limits)
    assert not judged["valid"]
    assert judged["reasons"]
    assert all(reason.startswith("worker w2: ") for reason in judged["reasons"])


def test_a_suite_that_is_killed_as_it_stops_its_users_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """STOP of the web UI kills it where Locust waits for the users."""
    seen: list[object] = []
    session = SimpleNamespace(problems=[])
    director = SimpleNamespace(is_broken_off=False, open_session=lambda kind: session)
    director.close_session = lambda *closed: seen.append(closed)

    class Broken:
        def __init__(self, *_: object) -> None:
            pass

        def run(self) -> None:
            raise ZeroDivisionError

    def stop() -> None:
        seen.append(director.is_broken_off)  # so that the end of the test closes it, too
        raise gevent.GreenletExit

    monkeypatch.setattr(suite, "director_of", lambda environment: director)
    monkeypatch.setattr(suite, "Driver", Broken)
    shape = suite.Suite()  # type: ignore[no-untyped-call]
    shape.runner = SimpleNamespace(environment=None, stop=stop)  # type: ignore[assignment]
    with pytest.raises(gevent.GreenletExit):
        shape.tick()
    assert seen == [True, (session, BROKEN_OFF)]
    assert "ZeroDivisionError" in session.problems[0]
