"""START of the web UI waits while the test before is being stopped, or is refused when that takes too long.

That a suite ends where it is stopped between two phases is shown by real runs in test_target.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.event
import pytest
from flask import Blueprint, Flask

from asyncload_lib.run import web_start


class Page:
    """A web UI with START and one other page, and a runner whose `stop`, unless given, lasts until `ended` is set."""

    def __init__(self, stop: Callable[[], object] | None = None) -> None:
        self.ended = gevent.event.Event()
        environment = SimpleNamespace(host="http://target")
        runner: Any = SimpleNamespace(stop=stop or self.ended.wait, environment=environment, shape_greenlet=None)
        app, routes = Flask(__name__), Blueprint("locust", __name__)
        for name in ("swarm", "stats"):
            routes.add_url_rule(f"/{name}", name, lambda: {"success": True}, methods=["POST"])
        app.register_blueprint(routes)
        web_ui: Any = SimpleNamespace(app=app)
        self.is_to_end = web_start.hold_early_starts(web_ui, runner)
        self.runner = runner
        self._app = app

    def ask(self, path: str) -> Any:
        return self._app.test_client().post(path).get_json()

    def stop(self) -> gevent.Greenlet:
        """Begin to stop the test."""
        stopping = gevent.spawn(self.runner.stop)
        gevent.idle()
        return stopping


def test_a_start_waits_for_the_end_of_the_test_before() -> None:
    page = Page()
    stopping = page.stop()
    start = gevent.spawn(page.ask, "/swarm")
    assert page.ask("/stats") == {"success": True}
    assert not start.ready()
    page.ended.set()
    assert start.get(timeout=10) == {"success": True}
    assert stopping.ready()


def test_a_start_that_waits_too_long_is_refused_and_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_start, "LIMIT_S", 0.0)
    page = Page()
    stopping = page.stop()
    assert page.ask("/swarm") == {"success": False, "message": web_start.REFUSAL, "host": "http://target"}
    assert "still ending" in web_start.REFUSAL
    page.ended.set()
    stopping.join()
    assert page.ask("/swarm") == {"success": True}


def test_a_stop_that_fails_does_not_hold_up_the_next_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(web_start, "LIMIT_S", 0.0)
    page = Page(broken)
    with pytest.raises(ZeroDivisionError):
        page.runner.stop()
    assert page.ask("/swarm") == {"success": True}


def nothing() -> None:
    """What Locust does to stop where no test runs."""


def test_a_start_waits_for_a_suite_that_is_to_end_between_two_phases() -> None:
    page = Page(nothing)
    page.runner.shape_greenlet = gevent.spawn(page.ended.wait)
    assert not page.is_to_end()
    page.runner.stop()
    assert page.is_to_end()
    start = gevent.spawn(page.ask, "/swarm")
    gevent.idle()
    assert not start.ready()
    page.ended.set()
    assert start.get(timeout=10) == {"success": True}
    assert not page.is_to_end()


def test_a_suite_that_stops_the_users_of_a_phase_is_not_to_end() -> None:
    page = Page(nothing)

    def suite() -> bool:
        page.runner.stop()
        return page.is_to_end()

    page.runner.shape_greenlet = gevent.spawn(suite)
    assert page.runner.shape_greenlet.get(timeout=10) is False
