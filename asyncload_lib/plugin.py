"""The wiring into Locust: who plays which part in a run, what is done at each of its events, and how it ends.

Importing this module registers its listeners on Locust's own events; `asyncload_lib` imports it with its user classes.
"""

import contextlib
import sys
import time
from typing import Any

import gevent
import gevent.lock
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import LocalRunner, MasterRunner, WorkerRunner

from asyncload_lib.errors import AsyncloadError
from asyncload_lib.free_run import FreeRun
from asyncload_lib.report.stdout import say
from asyncload_lib.run import command_line
from asyncload_lib.run.director import Director
from asyncload_lib.run.health import ProcessHealth
from asyncload_lib.run.participant import Participant
from asyncload_lib.run.signals import Signals
from asyncload_lib.run.target_source import configured
from asyncload_lib.run.terminal import tell
from asyncload_lib.run.verdict_tab import add_verdict_tab
from asyncload_lib.run.web_start import hold_early_starts
from asyncload_lib.users.base import loop_thread
from asyncload_lib.users.cut_off import hear_of_cut_offs

__all__ = ["Plugin", "director_of"]

INIT_LIMIT_S = 30.0

_plugins: dict[int, "Plugin"] = {}


def director_of(environment: Environment) -> Director:
    """Return who directs the runs of a Locust environment; there is none on a worker."""
    director = _plugins[id(environment)].director
    assert director is not None
    return director


class Plugin:
    """Everything asyncload adds to one Locust environment, on whichever node it runs."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.settings = command_line.settings_of(environment)
        self.director: Director | None = None
        self.participant: Participant | None = None
        self._health = ProcessHealth(loop_thread(), self.settings)
        self._closing = gevent.lock.RLock()
        self._closed = False
        self._is_leaving = False
        if not environment.stop_timeout:
            environment.stop_timeout = self.settings.stop_timeout

    def start(self) -> None:
        """Take this node's parts: directing, running users, or both."""
        runner, on = self.environment.runner, self.environment.events
        assert runner is not None
        headless = bool(getattr(self.environment.parsed_options, "headless", False))
        self._signals = Signals(runner, headless=headless)
        if isinstance(runner, (LocalRunner, MasterRunner)):
            self.director = Director(self.environment, self.settings, self._health, self._signals)
            if not self.director.is_suite:
                FreeRun(self.director)
            self.director.find_target()
        if isinstance(runner, (LocalRunner, WorkerRunner)):
            self.participant = Participant(self.environment, self.settings, configured(self.settings), self._health)
            on.spawning_complete.add_listener(self.participant.on_spawning_complete)
            self.participant.hello()
        if isinstance(runner, WorkerRunner):
            # Registered in `init`: it runs before Locust's own, which tells the master that this worker is gone.
            on.quitting.add_listener(self._on_worker_quitting)
        self._signals.is_starting = False
        if self.director is None:
            return
        if self.environment.web_ui is not None:
            base_path = getattr(self.environment.parsed_options, "web_base_path", None)
            add_verdict_tab(self.environment.web_ui, base_path, self.director.newest)
            self.director.is_to_end = hold_early_starts(self.environment.web_ui, runner)
        self.director.tell_who_comes()

    def _on_worker_quitting(self, **_: Any) -> None:
        if self._is_leaving:  # and now its master is gone, whose end is told by SIGTERM
            return
        self._is_leaving = True
        assert self.participant is not None
        assert self.environment.runner is not None
        gevent.sleep(0)  # a signal is noted by a greenlet of its own
        # While other workers leave, the master deals their users out anew; nobody would hear of what they did here.
        self.environment.runner.spawn_users = lambda *_, **__: []  # type: ignore[method-assign]
        self.environment.runner.stop()
        self.participant.finalise(0, farewell=self._signals.came is not None)

    def finish(self) -> None:
        """Write what is not written yet, set the exit code, end everything; the last to run before Locust exits.

        Locust can come here twice at the same time (SIGTERM on a master): the second waits for the first.
        """
        with self._closing:
            if self._closed:
                return
            self._closed = True
            with contextlib.ExitStack() as last:  # in reverse order, and whatever is raised: all of them
                if self.director is not None:
                    last.callback(self.director.stop_demo)
                last.callback(loop_thread().close if self.participant is None else self.participant.close)
                last.callback(self._health.stop)
                if self.director is not None:
                    last.callback(self.director.finish)
                if isinstance(self.environment.runner, LocalRunner):
                    self.environment.runner.stop()


def _add_arguments(parser: LocustArgumentParser, **_: Any) -> None:
    command_line.extend(parser)


def _init(environment: Environment, **_: Any) -> None:
    try:
        plugin = Plugin(environment)
        plugin.start()
    except AsyncloadError as error:
        sys.exit(tell(error))
    _plugins[id(environment)] = plugin


def _test_start(environment: Environment, **_: Any) -> None:
    """Hold the users of a worker that joins a running test: it is told to start before its `init`."""
    if id(environment) in _plugins:
        return
    deadline = time.monotonic() + INIT_LIMIT_S
    while id(environment) not in _plugins and time.monotonic() < deadline:
        gevent.sleep(0.01)
    participant = _plugins[id(environment)].participant
    assert participant is not None
    participant.on_test_start(environment)


def _quitting(environment: Environment, **_: Any) -> None:
    # Registered at import: it runs after Locust's own listeners, so a master's workers have been heard.
    if id(environment) in _plugins:
        _plugins[id(environment)].finish()


def _quit(**_: Any) -> None:
    for plugin in _plugins.values():
        session = plugin.director.session if plugin.director is not None else None
        if session is not None and session.summary and plugin.environment.web_ui is None:
            say("\n" + session.summary)


hear_of_cut_offs()
events.init_command_line_parser.add_listener(_add_arguments)
events.init.add_listener(_init)
events.test_start.add_listener(_test_start)
events.quitting.add_listener(_quitting)
events.quit.add_listener(_quit)
