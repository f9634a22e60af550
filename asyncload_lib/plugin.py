"""The wiring into Locust: who plays which part in a run, what is done at each of its events, and how it ends.

Importing this module registers its listeners on Locust's own events; `asyncload_lib` imports it with its user classes.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import gevent
import gevent.lock
from locust import events
from locust import log as locust_log
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import STATE_INIT, LocalRunner, MasterRunner, WorkerRunner

from asyncload_lib.errors import AsyncloadError, ConfigurationError, ExitCode
from asyncload_lib.free_run import FreeRun, scenario_of
from asyncload_lib.redaction import redact
from asyncload_lib.report.numbers import counted
from asyncload_lib.report.stdout import say
from asyncload_lib.run import command_line
from asyncload_lib.run.coordinator import Coordinator
from asyncload_lib.run.health import ProcessHealth
from asyncload_lib.run.introduction import files_in_memory, introduction
from asyncload_lib.run.members import Member
from asyncload_lib.run.messages import PLAN
from asyncload_lib.run.observer import TargetObserver
from asyncload_lib.run.participant import Participant
from asyncload_lib.run.refusal import contradictions
from asyncload_lib.run.session import Session
from asyncload_lib.run.signals import Signals
from asyncload_lib.run.target_source import TargetSource
from asyncload_lib.run.terminal import tell
from asyncload_lib.run.verdict_tab import add_verdict_tab
from asyncload_lib.run.web_start import hold_early_starts
from asyncload_lib.run.workers import misfits
from asyncload_lib.target import base_address
from asyncload_lib.users.base import AsyncUser, loop_thread
from asyncload_lib.users.cut_off import hear_of_cut_offs
from asyncload_lib.users.files import FileUser
from asyncload_lib.users.measure import tally

__all__ = ["BROKEN_OFF", "Plugin", "plugin_of"]

INIT_LIMIT_S = 30.0

BROKEN_OFF = "the run ended before everything was measured"

_plugins: dict[int, "Plugin"] = {}


def plugin_of(environment: Environment) -> "Plugin":
    """Return the plugin of a Locust environment."""
    return _plugins[id(environment)]


class Plugin:
    """Everything asyncload adds to one Locust environment, on whichever node it runs."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.settings = command_line.settings_of(environment)
        self._introduction = introduction(self.settings, environment)
        self._source = TargetSource(environment, self.settings)
        self.target = self._source.configured
        self.session: Session | None = None
        self.coordinator: Coordinator | None = None
        self.participant: Participant | None = None
        self.observer: TargetObserver | None = None
        self._health = ProcessHealth(loop_thread(), self.settings)
        """Also a master has one: it is no participant, but releases the users and watches the target from outside."""
        self._closing = gevent.lock.RLock()
        self._closed = False
        self._is_leaving = False
        self.watched_from_ns = 0
        """When the watch of the loops began, on the clock by which the reports of participants are placed."""
        self.is_broken_off = False
        """Whether the suite was stopped before its end."""
        self.is_to_end: Callable[[], bool] = lambda: False
        """Tells the suite, between two phases, that it was stopped in the web UI."""
        self._refusal_code: ExitCode | None = None
        self._refusal = ""
        """Why the newest test could not begin, if so."""
        self.is_headless = bool(getattr(environment.parsed_options, "headless", False))
        self._starts_by_itself = self.is_headless or bool(getattr(environment.parsed_options, "autostart", False))
        if not environment.stop_timeout:
            environment.stop_timeout = self.settings.stop_timeout

    # -- start-up ------------------------------------------------------------------------------------------------

    @property
    def is_suite(self) -> bool:
        """Whether this environment runs the scenarios, not just users."""
        return getattr(self.environment.shape_class, "runs_scenarios", False)

    @property
    def _scenarios(self) -> tuple[str, ...]:
        """Which scenarios are run; () is a free run."""
        return self.settings.scenarios if self.is_suite else ()

    @property
    def _writes_files(self) -> bool:
        """Whether users of this run write files."""
        if self.is_suite:
            return "mixed" in self.settings.scenarios
        return any(issubclass(user_class, FileUser) for user_class in self.environment.user_classes)

    def start(self) -> None:
        """Take this node's parts: directing, running users, or both."""
        runner = self.environment.runner
        assert runner is not None
        self._signals = Signals(runner, headless=self.is_headless)
        if isinstance(runner, (LocalRunner, MasterRunner)):
            self.coordinator = Coordinator(self.environment)
            if not self.is_suite:
                FreeRun(self)
            self.environment.events.test_stopping.add_listener(self._on_test_stopping)
            self._check_request()
            self._find_target()
        if isinstance(runner, (LocalRunner, WorkerRunner)):
            self.participant = Participant(self.environment, self.settings, self._source.configured, self._health)
            self.environment.events.spawning_complete.add_listener(self.participant.on_spawning_complete)
            self.participant.hello()
        if isinstance(runner, WorkerRunner):
            # Registered in `init`: it runs before Locust's own, which tells the master that this worker is gone.
            self.environment.events.quitting.add_listener(self._on_worker_quitting)
        if self.coordinator is not None:
            self.environment.events.test_stop.add_listener(self._on_test_stop)
        self._signals.is_starting = False
        if self.environment.web_ui is not None:
            base_path = getattr(self.environment.parsed_options, "web_base_path", None)
            add_verdict_tab(self.environment.web_ui, base_path, lambda: self._refusal or self.session)
            self.is_to_end = hold_early_starts(self.environment.web_ui, runner)
        if isinstance(runner, MasterRunner) and self.is_headless:
            self._tell_who_comes(runner)

    def _tell_who_comes(self, runner: MasterRunner) -> None:
        """Say whom a master waits for, and who is there; workers of `--processes` come by themselves."""
        options = self.environment.parsed_options
        if options is None or options.processes:
            return
        wanted = options.expect_workers
        say(f"Waiting for {counted(wanted, 'worker')} on port {options.master_bind_port}")

        def tell_of(number: int, client_id: str) -> None:
            if runner.state == STATE_INIT and number <= wanted:
                say(f"Worker {number} of {wanted}: {client_id}")

        def on_connect(client_id: str, **_: Any) -> None:
            tell_of(len({*runner.clients.keys(), client_id}), client_id)

        for number, client_id in enumerate(runner.clients.keys(), 1):  # these came while the demo was started
            tell_of(number, client_id)
        self.environment.events.worker_connect.add_listener(on_connect)

    def _check_request(self) -> None:
        """Refuse what this run cannot do; raises ConfigurationError."""
        scenarios = self._scenarios or (scenario_of(self.environment.user_classes), "run")
        if problems := contradictions(self.environment, self.settings, scenarios):
            raise ConfigurationError(problems)

    def _find_target(self) -> None:
        self._source.check(self._scenarios)
        if self._source.is_embedded:
            # Where the run starts by itself, the demo's start must not use up --run-time.
            self._source.start(web_ui_first=not self._starts_by_itself)
        elif not self._source.is_known:
            say("No host given, and no user class needs one: no target is watched")

    # -- a run ---------------------------------------------------------------------------------------------------

    def open_session(self, kind: str) -> Session:
        """Begin a run: who takes part, against what, and under which name."""
        self._refusal = ""
        assert self.coordinator is not None
        self.target, unwatched = self._source.aim(self._scenarios)
        self.is_broken_off = self._signals.is_over = False
        session = Session(self.settings, self.target, self.coordinator, kind, self._introduction, self._source.failure)
        self.coordinator.begin(session.id)
        self._compare_members()
        if self._writes_files and (note := self.files_in_memory()):
            say(f"Note: {note}; to measure a disk, set files.directory")
        if self.observer is not None:
            self.observer.stop()
        self._health.start()
        self.observer = TargetObserver(
            self._health.loop_monitor, loop_thread(), self.target, self.settings, unwatched, self._load
        )
        self.observer.start()
        self.session = session
        self.watch_anew()
        if isinstance(self.environment.runner, MasterRunner):  # where no user waits while it is written
            gevent.spawn(session.checkpoint_forever)
        return session

    def _load(self) -> tuple[int, int]:
        """Return how many operations this run has begun, and how many of them are over, as of now.

        Of what other processes do, and users of other packages, no more is known than that each does one at a time.
        """
        is_counted = self.is_suite or all(issubclass(one, AsyncUser) for one in self.environment.user_classes)
        if self.participant is not None and is_counted:
            return tally.started, tally.ended
        assert self.environment.runner is not None
        return self.environment.runner.target_user_count, 0

    def check_host(self) -> None:
        """Note a host that the web UI was given while the run went on: the load goes there, and is judged elsewhere."""
        given, session = base_address(self.environment.host), self.session
        if session is None or self.is_suite or not given or given == self.target.host:  # a suite aims by itself
            return
        was = f"{redact(self.target.host)}, which was watched," if self.target.host else "several hosts or none"
        problem = f"the host was changed during the run from {was} to {redact(given)}"
        if problem not in session.problems:
            session.problems.append(problem)

    def watch_anew(self, *, amid_load: bool = False) -> None:
        """Have this node forget what it has seen so far of the target, and of itself if it is a master.

        `amid_load`: where the target does not confirm that, its watch goes on.
        """
        assert self.observer is not None
        if not self.observer.reset(amid_load=amid_load):
            return
        if self.participant is None:
            self._health.reset()
        self.watched_from_ns = time.perf_counter_ns()

    def _compare_members(self) -> None:
        """Name every worker that cannot do what the master would, before anything is sent.

        Raises ConfigurationError for an embedded target that a worker cannot reach, and for files that it cannot write.
        """
        assert self.coordinator is not None
        ours = self._introduction
        members = list(self.coordinator.members.values())
        far = [member.id for member in members if member.hello and member.hello.get("network") != ours["network"]]
        if self.target.embedded and far:
            raise ConfigurationError(
                f"the embedded target listens on {ours['host']}'s loopback only, which {', '.join(far)} cannot reach: "
                "name the target with --host (and redis.url and vms in the settings) when workers run elsewhere"
            )
        if self._writes_files and (problems := _unwritable(ours["host"], members)):
            raise ConfigurationError(problems)
        for misfit in misfits(members, ours):
            say(f"Note: {misfit}")

    def files_in_memory(self) -> str:
        """Say where files of this run's users lie in memory; "" if nothing is known of such."""
        assert self.coordinator is not None
        return files_in_memory(member.hello for member in self.coordinator.members.values())

    def refuse(self, error: AsyncloadError) -> None:
        """Say why a run cannot begin."""
        self._refusal_code, self._refusal = tell(error), str(error)

    def announce(self, phase: str, *, gated: bool, timeout_s: float) -> None:
        """Tell the participants, through Locust's own start message, what the next test is."""
        assert self.session is not None
        assert self.coordinator is not None
        self.coordinator.start_test(phase)
        plan = {
            "run_id": self.session.id,
            "phase": phase,
            "gated": gated,
            "timeout_s": timeout_s,
            "report_interval_s": self.coordinator.report_interval_s,
            "target": self.target.to_wire() if self.target.embedded else None,
        }
        setattr(self.environment.parsed_options, PLAN, plan)

    def _on_test_stopping(self, **_: Any) -> None:
        # On a master the workers must stop their users and report before Locust says "quit": it listens no longer
        # than half a second after that.
        if isinstance(self.environment.runner, MasterRunner):
            self._finalise(stop=True)

    def _on_test_stop(self, **_: Any) -> None:
        if isinstance(self.environment.runner, LocalRunner):
            self._finalise(stop=False)
        if self.session is not None and not self.is_suite:
            self.close_session(self.session)
            self._quit_without_workers()
        elif self.session is not None and self.is_broken_off:
            self.close_session(self.session, BROKEN_OFF)

    def _quit_without_workers(self) -> None:
        """End a headless master that has lost all workers: Locust has only stopped the test, and would idle on."""
        assert self.coordinator is not None
        runner = self.environment.runner
        if self.is_headless and isinstance(runner, MasterRunner) and not self.coordinator.live:
            gevent.spawn(runner.quit)  # it kills the greenlet at hand, which has missed the last worker

    def _finalise(self, *, stop: bool) -> None:
        assert self.coordinator is not None
        session = self.session
        if session is None or session.exit_code is not None:
            return
        for member in self.coordinator.finalise(stop=stop):
            problem = f"worker {member.id} gave no final report"
            if problem not in session.problems:
                session.problems.append(problem)

    def close_session(self, session: Session, problem: str | None = None) -> None:
        """Write the report, once; Locust can end a run in several greenlets, and the others wait for the first."""
        with session.closing:
            if session.exit_code is not None:
                return
            session.interrupted_by = self._signals.came
            self.check_host()
            session.problems += [problem] if problem else []
            session.health += self.health()
            session.close()
            self.end_watch()
        if self.environment.web_ui is not None:
            say(session.summary)

    def end_watch(self) -> None:
        """Ask nothing more of the target: the session is closed."""
        self._signals.is_over = True
        if self.observer is not None:
            self.observer.stop()

    def health(self) -> list[dict[str, Any]]:
        """Return how the processes of this run do: what members said in the scenario at hand, and a master's own."""
        own = [self._health.report()] if self.participant is None else []
        return [*self._members_health(), *({**row, "process": f"{row['process']} (master)"} for row in own)]

    def _members_health(self) -> list[dict[str, Any]]:
        assert self.coordinator is not None
        members = [member for member in self.coordinator.members.values() if member.watched]
        return [
            member.watched.get("health") or {"process": f"worker {member.id}", "event_loops": []} for member in members
        ]

    def event_loops(self) -> list[dict[str, Any]]:
        """Return every loop that was watched since the last reset: the target's, then those that ran users."""
        assert self.observer is not None
        loops = (loop for health in self._members_health() for loop in health["event_loops"])
        return [*self.observer.report(), *loops]

    # -- the end -------------------------------------------------------------------------------------------------

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
                last.callback(self._source.stop)
                last.callback(loop_thread().close if self.participant is None else self.participant.close)
                last.callback(self._health.stop)
                last.callback(self.end_watch)
                last.callback(self._dismiss_workers)
                last.callback(self._settle_exit_code)
                if isinstance(self.environment.runner, LocalRunner):
                    self.environment.runner.stop()

    def _dismiss_workers(self) -> None:
        if isinstance(self.environment.runner, MasterRunner) and self.coordinator is not None:
            # Locust tells only those that it knows at this moment.
            self.coordinator.tell("quit", None, *self.coordinator.reachable)

    def _settle_exit_code(self) -> None:
        session = self.session
        given = self.environment.process_exit_code  # by a listener of the locustfile's own: it has run before this one
        if self._refusal_code is not None:
            self.environment.process_exit_code = self._refusal_code
        if isinstance(self.environment.runner, WorkerRunner):
            return
        if session is None:
            if self._signals.came is not None and self._starts_by_itself:
                self.environment.process_exit_code = ExitCode.of_signal(self._signals.came)
            elif self._starts_by_itself and not self.is_headless and self._refusal_code is None:
                say("INCOMPLETE: the run was ended before it began.")
                self.environment.process_exit_code = ExitCode.INCOMPLETE
            return
        self.environment.process_exit_code = ExitCode.REPORT_FAILED  # unless it ends well: never 0 without a report
        self.close_session(session, BROKEN_OFF)
        code = session.exit_code
        if code == ExitCode.PASS and locust_log.unhandled_greenlet_exception:
            code = ExitCode.LOCUST_USAGE
        if code == ExitCode.LOCUST_FAILURES:
            code = getattr(self.environment.parsed_options, "exit_code_on_error", code)
        self.environment.process_exit_code = code or given or ExitCode.PASS


def _unwritable(here: str, members: Iterable[Member]) -> list[str]:
    """Say where files cannot be written, and on which machine if that is not this one; once for all its processes."""
    told = (
        problem if member.hello["host"] == here else f"on {member.hello['host']}, {problem}"
        for member in members
        for problem in member.hello.get("unwritable", ())
    )
    return [*dict.fromkeys(told)]


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
    participant = plugin_of(environment).participant
    assert participant is not None
    participant.on_test_start(environment)


def _quitting(environment: Environment, **_: Any) -> None:
    # Registered at import: it runs after Locust's own listeners, so a master's workers have been heard.
    if id(environment) in _plugins:
        plugin_of(environment).finish()


def _quit(**_: Any) -> None:
    for plugin in _plugins.values():
        if plugin.session is not None and plugin.session.summary and plugin.environment.web_ui is None:
            say("\n" + plugin.session.summary)


hear_of_cut_offs()
events.init_command_line_parser.add_listener(_add_arguments)
events.init.add_listener(_init)
events.test_start.add_listener(_test_start)
events.quitting.add_listener(_quitting)
events.quit.add_listener(_quit)
