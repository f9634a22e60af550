"""A run without scenarios: what the users of any locustfile do, from Locust's start to its stop."""

import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gevent

from asyncload_lib.errors import AsyncloadError
from asyncload_lib.run.scenarios import free_metric
from asyncload_lib.verdict.defaults import JUDGED_SCENARIOS
from asyncload_lib.verdict.grammar import FREE_PHASES

if TYPE_CHECKING:
    from asyncload_lib.plugin import Plugin

__all__ = ["FreeRun", "scenario_of"]


class FreeRun:
    """Opens a session whenever Locust starts a test; made once, on the node that directs."""

    def __init__(self, plugin: "Plugin") -> None:
        self._plugin = plugin
        self._is_ramped_up = False
        self._most_users = 0
        plugin.environment.events.test_start.add_listener(self._on_test_start)
        plugin.environment.events.spawning_complete.add_listener(self._on_spawning_complete)

    def _on_test_start(self, **_: Any) -> None:
        plugin = self._plugin
        try:
            session = plugin.open_session("free")
        except AsyncloadError as error:
            plugin.refuse(error)
            if plugin.is_headless and plugin.environment.runner is not None:
                gevent.spawn(plugin.environment.runner.quit)
            raise gevent.GreenletExit from error  # no `Exception`: Locust's start must not go on
        session.measured = [self._metric]
        self._most_users = 0
        first_phase = self._first_phase()
        self._is_ramped_up = first_phase == "run"
        plugin.announce(first_phase, gated=False, timeout_s=plugin.settings.chat.timeout)

    def _first_phase(self) -> str:
        """Keep the ramp out of the result, unless all users come at once."""
        options, runner = self._plugin.environment.parsed_options, self._plugin.environment.runner
        rate = getattr(options, "spawn_rate", None) or 1
        assert runner is not None
        return "ramp" if runner.target_user_count > rate else "run"

    def _on_spawning_complete(self, user_count: int, **_: Any) -> None:
        # Locust says so again whenever it has spawned users anew: in place of a lost worker's, or by an edit in its UI.
        self._most_users = max(self._most_users, user_count)
        self._plugin.check_host()
        if self._plugin.observer is not None and not self._is_ramped_up:
            self._is_ramped_up = True
            self._plugin.watch_anew(amid_load=True)

    def _metric(self) -> dict[str, Any]:
        assert self._plugin.coordinator is not None
        event_loops = self._plugin.event_loops()
        measured = self._plugin.coordinator.store.merged()  # after what may wait: the rest is of the same moment
        # Each worker tells the most that it had: users that were dealt out anew are with more than one.
        most_users = self._most_users or sys.maxsize
        phases = {
            name: replace(phase, users=min(phase.users, most_users))
            for name, phase in measured.items()
            if name in FREE_PHASES
        }
        return free_metric(
            scenario_of(self._plugin.environment.user_classes),
            phases,
            event_loops=event_loops,
            watched_from_ns=self._plugin.watched_from_ns,
        )


def scenario_of(user_classes: Iterable[type]) -> str:
    """Return the scenario of a free run of these users: the one that all of them belong to, else "run"."""
    scenarios = {_scenario(user_class) for user_class in user_classes}
    return scenarios.pop() if len(scenarios) == 1 else "run"


def _scenario(user_class: type) -> str:
    """Return which scenario a user class belongs to; what its author calls `scenario` may be something else."""
    named = getattr(user_class, "scenario", "run")
    return named if isinstance(named, str) and named in JUDGED_SCENARIOS else "run"
