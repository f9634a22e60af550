"""A run without scenarios: what the users of any locustfile do, from Locust's start to its stop."""

import sys
from dataclasses import replace
from typing import Any

import gevent

from asyncload_lib.errors import AsyncloadError
from asyncload_lib.run.director import Director
from asyncload_lib.run.scenarios import free_metric, scenario_of
from asyncload_lib.verdict.grammar import FREE_PHASES

__all__ = ["FreeRun"]


class FreeRun:
    """Opens a session whenever Locust starts a test; made once, on the node that directs."""

    def __init__(self, director: Director) -> None:
        self._director = director
        self._is_ramped_up = False
        self._most_users = 0
        director.environment.events.test_start.add_listener(self._on_test_start)
        director.environment.events.spawning_complete.add_listener(self._on_spawning_complete)

    def _on_test_start(self, **_: Any) -> None:
        director = self._director
        try:
            session = director.open_session("free")
        except AsyncloadError as error:
            director.refuse(error)
            if director.is_headless:
                gevent.spawn(director.runner.quit)
            raise gevent.GreenletExit from error  # no `Exception`: Locust's start must not go on
        session.measured, session.health_at_hand = [self._metric], director.health
        self._most_users = 0
        first_phase = self._first_phase()
        self._is_ramped_up = first_phase == "run"
        director.announce(first_phase, gated=False, timeout_s=director.settings.chat.timeout)

    def _first_phase(self) -> str:
        """Keep the ramp out of the result, unless all users come at once."""
        rate = getattr(self._director.environment.parsed_options, "spawn_rate", None) or 1
        return "ramp" if self._director.runner.target_user_count > rate else "run"

    def _on_spawning_complete(self, user_count: int, **_: Any) -> None:
        # Locust says so again whenever it has spawned users anew: in place of a lost worker's, or by an edit in its UI.
        self._most_users = max(self._most_users, user_count)
        self._director.check_host()
        if self._director.session is not None and not self._is_ramped_up:
            self._is_ramped_up = True
            self._director.watch_anew(amid_load=True)

    def _metric(self) -> dict[str, Any]:
        event_loops = self._director.event_loops()
        measured = self._director.coordinator.store.merged()  # after what may wait: the rest is of the same moment
        # Each worker tells the most that it had: users that were dealt out anew are with more than one.
        most_users = self._most_users or sys.maxsize
        phases = {
            name: replace(phase, users=min(phase.users, most_users))
            for name, phase in measured.items()
            if name in FREE_PHASES
        }
        return free_metric(
            scenario_of(self._director.environment.user_classes),
            phases,
            event_loops=event_loops,
            watched_from_ns=self._director.watched_from_ns,
        )
