"""The end of a process: every step is taken, whatever one of them raises."""

from types import SimpleNamespace
from typing import Any

import gevent.lock
import pytest

from asyncload_lib.plugin import Plugin


class Ending(Plugin):
    """A plugin whose steps only say that they were taken; the first of them fails."""

    def __init__(self, taken: list[str]) -> None:
        def step(name: str) -> Any:
            return lambda: taken.append(name)

        self.environment = SimpleNamespace(runner=None)  # type: ignore[assignment]
        self._closing = gevent.lock.RLock()
        self._closed = False
        self._source = SimpleNamespace(stop=step("demo"))  # type: ignore[assignment]
        self.participant = SimpleNamespace(close=step("participant"))  # type: ignore[assignment]
        self.observer = SimpleNamespace(stop=step("observer"))  # type: ignore[assignment]
        self._dismiss_workers = step("workers")  # type: ignore[method-assign]

    def _settle_exit_code(self) -> None:
        raise ZeroDivisionError


def test_all_steps_of_the_end_are_taken_and_the_failure_is_told() -> None:
    taken: list[str] = []
    with pytest.raises(ZeroDivisionError):
        Ending(taken).finish()

    assert taken == ["workers", "observer", "participant", "demo"]
