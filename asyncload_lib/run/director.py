"""The node that directs a run, a master or a local runner: what is loaded, who takes part, and what comes of it."""

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

import gevent
from locust import log as locust_log
from locust.env import Environment
from locust.runners import STATE_INIT, LocalRunner, MasterRunner

from asyncload_lib.errors import AsyncloadError, ConfigurationError, ExitCode
from asyncload_lib.redaction import redact
from asyncload_lib.report.numbers import counted
from asyncload_lib.report.stdout import say
from asyncload_lib.run.coordinator import Coordinator
from asyncload_lib.run.health import ProcessHealth
from asyncload_lib.run.introduction import files_in_memory, introduction
from asyncload_lib.run.members import Member
from asyncload_lib.run.messages import PLAN
from asyncload_lib.run.observer import TargetObserver
from asyncload_lib.run.refusal import contradictions
from asyncload_lib.run.scenarios import scenario_of
from asyncload_lib.run.session import Session
from asyncload_lib.run.signals import Signals
from asyncload_lib.run.target_source import TargetSource
from asyncload_lib.run.terminal import tell
from asyncload_lib.run.workers import misfits
from asyncload_lib.settings import Settings
from asyncload_lib.target import base_address
from asyncload_lib.users.base import AsyncUser, loop_thread
from asyncload_lib.users.files import FileUser
from asyncload_lib.users.measure import tally

__all__ = ["BROKEN_OFF", "Director"]

BROKEN_OFF = "the run ended before everything was measured"


class Director:
    """Directs the runs of one Locust environment, one after the other; each is a session with a report of its own.

    `health` is that of this process: also a master has one, for it releases the users and watches the target from
    outside.
    """

    def __init__(self, environment: Environment, settings: Settings, health: ProcessHealth, signals: Signals) -> None:
        assert isinstance(environment.runner, (LocalRunner, MasterRunner))
        options = environment.parsed_options
        self.environment = environment
        self.runner = environment.runner
        self.settings = settings
        self.coordinator = Coordinator(environment)
        self.session: Session | None = None
        """The newest; None before the first."""
        self.is_headless = bool(getattr(options, "headless", False))
        self.is_broken_off = False
        """Whether the suite was stopped before its end."""
        self.is_to_end: Callable[[], bool] = lambda: False
        """Tells the suite, between two phases, that it was stopped in the web UI."""
        self.watched_from_ns = 0
        """When the watch of the loops began, on the clock by which the reports of participants are placed."""
        self._is_master = isinstance(environment.runner, MasterRunner)
        self._starts_by_itself = self.is_headless or bool(getattr(options, "autostart", False))
        self._health = health
        self._signals = signals
        self._introduction = introduction(settings, environment)
        self._source = TargetSource(environment, settings)
        self.target = self._source.configured
        self._observer: TargetObserver | None = None
        self._refusal_code: ExitCode | None = None
        self._refusal = ""
        """Why the newest test could not begin, if so."""
        environment.events.test_stopping.add_listener(self._on_test_stopping)
        environment.events.test_stop.add_listener(self._on_test_stop)

    # -- before the first run ------------------------------------------------------------------------------------

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

    def find_target(self) -> None:
        """Refuse what no run can do, and start the demo if nothing else is to be loaded.

        Raises ConfigurationError, and TargetError if the demo does not come up.
        """
        named = self._scenarios or (scenario_of(self.environment.user_classes), "run")
        if problems := contradictions(self.environment, self.settings, named):
            raise ConfigurationError(problems)
        self._source.check(self._scenarios)
        if self._source.is_embedded:
            # Where the run starts by itself, the demo's start must not use up --run-time.
            self._source.start(web_ui_first=not self._starts_by_itself)
        elif not self._source.is_known:
            say("No host given, and no user class needs one: no target is watched")

    def tell_who_comes(self) -> None:
        """Say whom a headless master waits for, and who is there; workers of `--processes` come by themselves."""
        runner, options = self.runner, self.environment.parsed_options
        if not isinstance(runner, MasterRunner) or not self.is_headless or options is None or options.processes:
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

    # -- a run ---------------------------------------------------------------------------------------------------

    def open_session(self, kind: str) -> Session:
        """Begin a run: who takes part, against what, and under which name."""
        self._refusal = ""
        self.target, unwatched = self._source.aim(self._scenarios)
        self.is_broken_off = self._signals.is_over = False
        session = Session(self.settings, self.target, self.coordinator, kind, self._introduction, self._source.failure)
        self.coordinator.begin(session.id)
        self._compare_members()
        if self._writes_files and (note := self.files_in_memory()):
            say(f"Note: {note}; to measure a disk, set files.directory")
        if self._observer is not None:
            self._observer.stop()
        self._health.start()
        self._observer = TargetObserver(
            self._health.loop_monitor, loop_thread(), self.target, self.settings, unwatched, self._load
        )
        self._observer.start()
        self.session = session
        self.watch_anew()
        if self._is_master:  # where no user waits while it is written
            gevent.spawn(session.checkpoint_forever)
        return session

    def newest(self) -> Session | str | None:
        """Return the session begun last, whether it has ended or not, or why the newest test could not begin."""
        return self._refusal or self.session

    def refuse(self, error: AsyncloadError) -> None:
        """Say why a run cannot begin."""
        self._refusal_code, self._refusal = tell(error), str(error)

    def _load(self) -> tuple[int, int]:
        """Return how many operations this run has begun, and how many of them are over, as of now.

        Of what other processes do, and users of other packages, no more is known than that each does one at a time.
        """
        is_counted = self.is_suite or all(issubclass(one, AsyncUser) for one in self.environment.user_classes)
        if is_counted and not self._is_master:
            return tally.started, tally.ended
        return self.runner.target_user_count, 0

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
        assert self._observer is not None
        if not self._observer.reset(amid_load=amid_load):
            return
        if self._is_master:
            self._health.reset()
        self.watched_from_ns = time.perf_counter_ns()

    def _compare_members(self) -> None:
        """Name every worker that cannot do what the master would, before anything is sent.

        Raises ConfigurationError for an embedded target that a worker cannot reach, and for files that it cannot write.
        """
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
        return files_in_memory(member.hello for member in self.coordinator.members.values())

    def announce(self, phase: str, *, gated: bool, timeout_s: float) -> None:
        """Tell the participants, through Locust's own start message, what the next test is."""
        assert self.session is not None
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

    def health(self) -> list[dict[str, Any]]:
        """Return how the processes of this run do: what members said in the scenario at hand, and a master's own."""
        own = self._health.report() if self._is_master else None
        return [*self._members_health(), *([{**own, "process": f"{own['process']} (master)"}] if own else [])]

    def _members_health(self) -> list[dict[str, Any]]:
        members = [member for member in self.coordinator.members.values() if member.watched]
        return [
            member.watched.get("health") or {"process": f"worker {member.id}", "event_loops": []} for member in members
        ]

    def event_loops(self) -> list[dict[str, Any]]:
        """Return every loop that was watched since the last reset: the target's, then those that ran users."""
        assert self._observer is not None
        loops = (loop for health in self._members_health() for loop in health["event_loops"])
        return [*self._observer.report(), *loops]

    # -- its end -------------------------------------------------------------------------------------------------

    def _on_test_stopping(self, **_: Any) -> None:
        # On a master the workers must stop their users and report before Locust says "quit": it listens no longer
        # than half a second after that.
        if self._is_master:
            self._finalise(stop=True)

    def _on_test_stop(self, **_: Any) -> None:
        """Close the session of a free run, or of a suite that was broken off; any other suite closes its own."""
        if not self._is_master:
            self._finalise(stop=False)
        if self.session is not None and not self.is_suite:
            self.close_session(self.session)
            self._quit_without_workers()
        elif self.session is not None and self.is_broken_off:
            self.close_session(self.session, BROKEN_OFF)

    def _quit_without_workers(self) -> None:
        """End a headless master that has lost all workers: Locust has only stopped the test, and would idle on."""
        if self.is_headless and self._is_master and not self.coordinator.live:
            gevent.spawn(self.runner.quit)  # it kills the greenlet at hand, which has missed the last worker

    def _finalise(self, *, stop: bool) -> None:
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
            session.close()
            self._end_watch()
        if self.environment.web_ui is not None:
            say(session.summary)

    def _end_watch(self) -> None:
        """Ask nothing more of the target: the session is closed."""
        self._signals.is_over = True
        if self._observer is not None:
            self._observer.stop()

    # -- the end of all ------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Write what is not written yet, set the exit code, and let the workers go."""
        with contextlib.ExitStack() as last:  # in reverse order, and whatever is raised: all of them
            last.callback(self._end_watch)
            last.callback(self._dismiss_workers)
            self._settle_exit_code()

    def stop_demo(self) -> None:
        """End the demo, if it is the target."""
        self._source.stop()

    def _dismiss_workers(self) -> None:
        if self._is_master:  # Locust tells only those that it knows at this moment
            self.coordinator.tell("quit", None, *self.coordinator.reachable)

    def _settle_exit_code(self) -> None:
        session, environment = self.session, self.environment
        given = environment.process_exit_code  # by a listener of the locustfile's own: it has run before this one
        if session is None:
            if self._refusal_code is not None:
                environment.process_exit_code = self._refusal_code
            if self._signals.came is not None and self._starts_by_itself:
                environment.process_exit_code = ExitCode.of_signal(self._signals.came)
            elif self._starts_by_itself and not self.is_headless and self._refusal_code is None:
                say("INCOMPLETE: the run was ended before it began.")
                environment.process_exit_code = ExitCode.INCOMPLETE
            return
        environment.process_exit_code = ExitCode.REPORT_FAILED  # unless it ends well: never 0 without a report
        self.close_session(session, BROKEN_OFF)
        code = session.exit_code
        if code == ExitCode.PASS and locust_log.unhandled_greenlet_exception:
            code = ExitCode.LOCUST_USAGE
        if code == ExitCode.LOCUST_FAILURES:
            code = getattr(environment.parsed_options, "exit_code_on_error", code)
        environment.process_exit_code = code or given or ExitCode.PASS


def _unwritable(here: str, members: Iterable[Member]) -> list[str]:
    """Say where files cannot be written, and on which machine if that is not this one; once for all its processes."""
    told = (
        problem if member.hello["host"] == here else f"on {member.hello['host']}, {problem}"
        for member in members
        for problem in member.hello.get("unwritable", ())
    )
    return [*dict.fromkeys(told)]
