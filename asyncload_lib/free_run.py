"""A run without scenarios: what the users of any locustfile do, from Locust's start to its stop."""

from typing import TYPE_CHECKING, Any

import gevent
from locust.runners import MasterRunner

from asyncload_lib.errors import AsyncloadError
from asyncload_lib.scenarios import FREE_PHASES, free_metric
from asyncload_lib.session import Session

if TYPE_CHECKING:
    from asyncload_lib.plugin import Plugin

__all__ = ["FreeRun"]


class FreeRun:
    """Opens a session whenever Locust starts a test; made once, on the node that directs."""

    def __init__(self, plugin: "Plugin") -> None:
        self._plugin = plugin
        self._is_ramped_up = False
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
        self._is_ramped_up = False
        plugin.announce(self._first_phase(), gated=False, timeout_s=plugin.settings.chat.timeout)
        if isinstance(plugin.environment.runner, MasterRunner):  # where no user waits while it is written
            gevent.spawn(self._checkpoint_forever, session)

    def _first_phase(self) -> str:
        """Keep the ramp out of the result, unless all users come at once."""
        options, runner = self._plugin.environment.parsed_options, self._plugin.environment.runner
        rate = getattr(options, "spawn_rate", None) or 1
        assert runner is not None
        return "ramp" if runner.target_user_count > rate else "run"

    def _on_spawning_complete(self, **_: Any) -> None:
        # Locust says so again whenever it has spawned users anew in place of a lost worker's.
        if self._plugin.observer is not None and not self._is_ramped_up:
            self._is_ramped_up = True
            self._plugin.watch_anew()

    def _metric(self) -> dict[str, Any]:
        assert self._plugin.coordinator is not None
        event_loops = self._plugin.event_loops()
        measured = self._plugin.coordinator.store.merged()  # after what may wait: the rest is of the same moment
        scenarios = {getattr(user_class, "scenario", "run") for user_class in self._plugin.environment.user_classes}
        scenario = scenarios.pop() if len(scenarios) == 1 else "run"
        phases = {name: phase for name, phase in measured.items() if name in FREE_PHASES}
        return free_metric(scenario, phases, event_loops=event_loops)

    def _checkpoint_forever(self, session: Session) -> None:
        while True:
            gevent.sleep(session.checkpoint_interval_s)
            if session is not self._plugin.session or session.exit_code is not None:
                return
            session.checkpoint()
