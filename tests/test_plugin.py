"""How a process ends, whatever part it plays in a run, and a suite that is cut short."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.lock
import pytest

from asyncload_lib import suite
from asyncload_lib.plugin import Plugin
from asyncload_lib.run.director import BROKEN_OFF, Director


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


def test_a_suite_that_is_killed_before_its_first_phase_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """STOP of the web UI kills it where it waits for a slow target to confirm that its watch begins."""

    def open_session(kind: str) -> None:
        raise gevent.GreenletExit

    director = SimpleNamespace(is_broken_off=False, open_session=open_session)
    monkeypatch.setattr(suite, "director_of", lambda environment: director)
    shape = suite.Suite()  # type: ignore[no-untyped-call]
    shape.runner = SimpleNamespace(environment=None)  # type: ignore[assignment]
    with pytest.raises(gevent.GreenletExit):
        shape.tick()
    assert director.is_broken_off
