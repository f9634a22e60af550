"""A Locust environment in this very process, and everything its users said."""

import json
import time
import urllib.request
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import gevent
from locust import User
from locust.env import Environment
from locust.event import Events
from locust.runners import LocalRunner

from asyncload_lib.users import events
from asyncload_lib.users.base import loop_thread
from asyncload_lib.users.measure import tally

__all__ = ["Swarm", "derived", "eventually", "fetch"]

UserT = TypeVar("UserT", bound=User)


def eventually(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """Return the first true value of `condition()`, polled on the hub; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        gevent.sleep(0.005)
    return value


def derived(base: type[UserT], *mixins: type, **body: Any) -> type[UserT]:
    """Define the class Person of these, as a class statement would."""
    kind: type = type(base)
    defined: type[UserT] = kind("Person", (*mixins, base), body)
    return defined


def fetch(url: str) -> Any:
    """Return the JSON at `url`."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


class Swarm:
    """A local runner of `user_classes`, stopped when its block is left; the counts must add up then.

    Not if `is_complete` is set to false: where users go on beyond their end.
    """

    is_complete = True

    def __init__(self, *user_classes: type[User], **options: Any) -> None:
        self.events = Events()
        options.setdefault("stop_timeout", 2)
        self.environment = Environment(user_classes=list(user_classes), events=self.events, **options)
        self.runner: LocalRunner = self.environment.create_local_runner()
        self.requests: list[dict[str, Any]] = []
        self.abandoned: list[dict[str, Any]] = []
        self.metrics: list[tuple[str, list[float]]] = []
        self.errors: list[Exception] = []
        self.users: list[User] = []
        self._begun = tally.started

    def __enter__(self) -> Self:
        self.events.request.add_listener(lambda **event: self.requests.append(event))
        self.events.user_error.add_listener(lambda exception, **_: self.errors.append(exception))
        events.request_abandoned.add_listener(self._on_abandoned)
        events.request_metrics.add_listener(self._on_metrics)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: TracebackType | BaseException | None) -> None:
        self.runner.quit()
        loop_thread().flush()
        events.request_abandoned.remove_listener(self._on_abandoned)
        events.request_metrics.remove_listener(self._on_metrics)
        if kind is None and self.is_complete:
            assert self.started == len(self.requests) + len(self.abandoned)

    def _on_abandoned(self, **event: Any) -> None:
        self.abandoned.append(event)

    def _on_metrics(self, metrics: dict[str, list[float]], **_: Any) -> None:
        self.metrics.extend(metrics.items())

    def start(self, count: int = 1) -> Self:
        """Have `count` users running."""
        self._spawn(count)
        self.users = [greenlet.args[0] for greenlet in self.runner.user_greenlets]
        return self

    def run(self, count: int = 1, timeout_s: float = 10.0) -> Self:
        """Start `count` users and wait until all have stopped by themselves."""
        self._spawn(count)
        eventually(lambda: self.runner.user_count == 0, timeout_s)
        return self

    def _spawn(self, count: int) -> None:
        self.runner.start(count, spawn_rate=1000)
        assert self.runner.spawning_greenlet is not None
        self.runner.spawning_greenlet.join()

    def stop(self) -> float:
        """Stop all users; return how long that took, in seconds."""
        begun = time.monotonic()
        self.runner.stop()
        return time.monotonic() - begun

    @property
    def started(self) -> int:
        return tally.started - self._begun

    @property
    def failures(self) -> list[str]:
        return [str(event["exception"]) for event in self.requests if event["exception"] is not None]
