"""The four scenarios in order, each phase released together, each against its blocking baseline."""

import logging
import sys
import time
from typing import Any

import gevent
from locust import LoadTestShape, User
from locust.dispatch import UsersDispatcher

from asyncload_lib.errors import AsyncloadError
from asyncload_lib.plugin import director_of
from asyncload_lib.redaction import redact
from asyncload_lib.report.numbers import counted
from asyncload_lib.report.stdout import say
from asyncload_lib.report.text import clean
from asyncload_lib.results.figures import counts
from asyncload_lib.results.model import heading, time_problem
from asyncload_lib.results.phase import PhaseResult
from asyncload_lib.run.director import BROKEN_OFF, Director
from asyncload_lib.run.scenarios import Phase, Scenario, planned, suite_metric
from asyncload_lib.run.session import Session
from asyncload_lib.users import baseline, phases

__all__ = [
    "ChatBurst",
    "ChatSustained",
    "FileOperation",
    "MixedBaseline",
    "RedisBaseline",
    "RedisOperation",
    "Suite",
    "VmBaseline",
    "VmCheck",
]

logger = logging.getLogger(__name__)

GATHER_LIMIT_S = 60.0
FINISH_MARGIN_S = 20.0
PROGRESS_INTERVAL_S = 0.5


class ChatBurst(phases.ChatBurstUser):
    """One chat request at the release."""


class ChatSustained(phases.ChatSustainedUser):
    """Conversations until the phase ends."""


class RedisOperation(phases.RedisOperationUser):
    """One Redis operation at the release."""


class FileOperation(phases.FileOperationUser):
    """One file operation at the release."""


class VmCheck(phases.VmCheckUser):
    """One health check at the release."""


class RedisBaseline(baseline.RedisBaselineUser):
    """Redis operations one after another."""


class MixedBaseline(baseline.MixedBaselineUser):
    """File and Redis operations one after another."""


class VmBaseline(baseline.VmBaselineUser):
    """Health checks one after another."""


class StopAskedError(Exception):
    """STOP of the web UI between two phases."""


class Suite(LoadTestShape):
    """The shape that Locust starts; its only tick is the whole suite."""

    runs_scenarios = True

    def tick(self) -> None:
        assert self.runner is not None
        director = director_of(self.runner.environment)
        try:
            session = director.open_session("suite")
        except AsyncloadError as error:
            director.refuse(error)
            return
        except gevent.GreenletExit:
            director.is_broken_off = True
            raise
        try:
            Driver(director, session).run()
        except StopAskedError:  # nobody else will say that the run is over
            director.close_session(session, BROKEN_OFF)
        except gevent.GreenletExit:
            director.is_broken_off = True  # by Locust, which stops the users next and then says so
            raise
        except Exception as error:
            # Whatever it is, what was measured so far is reported, as incomplete.
            logger.exception("the suite stopped with an error")
            session.problems.append(f"the suite stopped with an error: {type(error).__name__}: {error}")
            director.is_broken_off = True
            try:
                self.runner.stop()
            finally:  # also where a STOP that comes meanwhile kills this greenlet
                director.close_session(session, BROKEN_OFF)


class PhaseDispatcher(UsersDispatcher):
    """Leaves users where they are: a phase is not dealt out anew when a worker comes or goes in the middle of it."""

    @property
    def dispatch_in_progress(self) -> bool:
        return True


class Driver:
    """Runs the scenarios of one session, on the master or locally."""

    def __init__(self, director: Director, session: Session) -> None:
        director.environment.dispatcher_class = PhaseDispatcher
        self._director = director
        self._session = session
        self._runner = director.runner
        self._coordinator = director.coordinator
        self._coordinator.keeps_missing = True
        self._skews_s: dict[str, float | None] = {}
        self._released_at = 0.0
        """Of the phase that goes on, monotonic seconds."""

    def run(self) -> None:
        """Run every scenario and write the report."""
        # Locust's closing table would show the last phase only, as if that had been the run.
        logging.getLogger("locust.stats_logger").setLevel(logging.WARNING)
        session = self._session
        scenarios = planned(self._director.settings, self._director.target)
        host = redact(self._director.target.host or "the configured addresses")
        say(f"Run {session.id}: {counted(len(scenarios), 'scenario')} against {host}")
        given = self._director.environment.host
        hosts: dict[type[User], Any] = {user_class: user_class.host for user_class in self._runner.user_classes}
        try:
            for number, scenario in enumerate(scenarios, 1):
                say(f"[{number}/{len(scenarios)}] {heading(scenario.test_name, scenario.concurrency)}")
                self._scenario(scenario)
                if not self._coordinator.live:
                    session.problems.append("no worker is left: the rest of the run was not done")
                    break
        finally:
            # The last phase is the baseline's, against another host, which Locust has put on the user classes too.
            self._director.environment.host = given
            for user_class, host in hosts.items():
                user_class.host = host
        self._director.close_session(session)

    def _scenario(self, scenario: Scenario) -> None:
        self._coordinator.watch()
        self._director.watch_anew()
        from_ns = self._director.watched_from_ns
        taken: list[list[dict[str, Any]]] = []  # until they are, whoever asks for the metric looks at the loops anew

        def metric() -> dict[str, Any]:
            return self._metric(scenario, from_ns, taken[0] if taken else self._director.event_loops())

        self._session.measured.append(metric)
        self._session.health_at_hand = self._director.health
        self._phases(scenario, baseline=False)
        self._session.take_health()  # now: the baseline blocks on purpose
        taken.append(self._director.event_loops())
        self._baseline(scenario)

    def _baseline(self, scenario: Scenario) -> None:
        """Run the baseline, unless there is nothing to compare: it could take minutes, one timeout after another."""
        headline = self._coordinator.store.merged().get(f"{scenario.key}/{scenario.headline}") or PhaseResult("")
        problem = time_problem(counts(headline), f"the phase {scenario.headline}")
        if not problem:
            self._phases(scenario, baseline=True)
        elif any(phase.baseline for phase in scenario.phases):
            say(f"      no baseline: {problem}")

    def _phases(self, scenario: Scenario, *, baseline: bool) -> None:
        for phase in scenario.phases:
            if phase.baseline is baseline and self._coordinator.live:
                if self._director.is_to_end():
                    raise StopAskedError
                self._phase(scenario, phase)

    def _metric(self, scenario: Scenario, watched_from_ns: int, loops: list[dict[str, Any]]) -> dict[str, Any]:
        return suite_metric(
            scenario,
            self._coordinator.store.merged(),
            self._director.target,
            event_loops=loops,
            start_skew_s=self._skews_s,
            watched_from_ns=watched_from_ns,
            file_note=self._director.files_in_memory(),
        )

    # -- one phase -----------------------------------------------------------------------------------------------

    def _phase(self, scenario: Scenario, phase: Phase) -> None:
        key = scenario.phase_key(phase)
        self._aim(phase)
        # A request's own timeout; only chat requests take it from here, and theirs is the limit of their phases.
        self._director.announce(key, gated=True, timeout_s=phase.limit_s)
        classes = [self._runner.user_classes_by_name[name] for name in phase.users]
        for user_class in classes:
            user_class.fixed_count = phase.users[user_class.__name__]
        self._runner.start(phase.user_count, max(phase.user_count, 1), user_classes=classes)
        self._coordinator.wait_until(lambda: self._coordinator.gathered(key, phase.user_count), GATHER_LIMIT_S)
        waiting = self._coordinator.waiting(key)
        if waiting < phase.user_count:
            self._session.problems.append(
                f"{key}: only {waiting} of {counted(phase.user_count, 'user')} were ready at the start"
            )
        self._coordinator.release(key)
        self._released_at = time.monotonic()
        self._sustain(key, phase)
        limit_s = phase.limit_s + FINISH_MARGIN_S
        if not self._await_done(key, phase, limit_s):
            left = counted(self._coordinator.waiting(key) - self._coordinator.done(key), "user")
            self._session.problems.append(f"{key}: {left} had not finished {limit_s:g} s later and were cut off")
        self._runner.stop()
        self._coordinator.wait_ready()
        self._check_begun(scenario, phase)
        self._skews_s[key] = self._coordinator.start_skew_s()
        self._tell(key, phase, final=True)

    def _check_begun(self, scenario: Scenario, phase: Phase) -> None:
        """Say so if not everybody who stood at the gate did its part; what a lost worker took along is told with it."""
        key = scenario.phase_key(phase)
        wanted = scenario.concurrency if phase.name == "baseline" else self._coordinator.waiting(key)
        measured = self._coordinator.store.merged().get(key)
        begun = measured.started if measured is not None else 0
        is_whole = all(member.lost_at is None for member in self._coordinator.members.values())
        if is_whole and not phase.sustain_s and begun < wanted:
            self._session.problems.append(f"{key}: only {begun} of {counted(wanted, 'operation')} were started")

    def _aim(self, phase: Phase) -> None:
        target = self._director.target
        # Without a host no phase needs one, and Locust would keep the baseline's on the user classes.
        self._director.environment.host = target.baseline_host if phase.baseline and target.host else target.host

    def _sustain(self, key: str, phase: Phase) -> None:
        deadline = time.monotonic() + phase.sustain_s
        while (left_s := deadline - time.monotonic()) > 0 and self._coordinator.live:
            gevent.sleep(min(PROGRESS_INTERVAL_S, left_s))
            self._progress(key, phase)
        if phase.sustain_s:
            self._coordinator.finish(key)

    def _await_done(self, key: str, phase: Phase, limit_s: float) -> bool:
        deadline = time.monotonic() + limit_s
        coordinator = self._coordinator
        while time.monotonic() < deadline:
            if coordinator.wait_until(lambda: coordinator.done(key) >= coordinator.waiting(key), PROGRESS_INTERVAL_S):
                return True
            if not coordinator.live:
                return True
            self._progress(key, phase)
        return False

    # -- what people see -----------------------------------------------------------------------------------------

    def _progress(self, key: str, phase: Phase) -> None:
        if sys.stdout.isatty():
            self._tell(key, phase, final=False)

    def _tell(self, key: str, phase: Phase, *, final: bool) -> None:
        measured = self._coordinator.store.merged().get(key) or PhaseResult(key)
        p95_us = measured.ok.quantile(0.95)
        p95 = "" if p95_us is None else f"  p95 {p95_us / 1e3:.1f} ms"
        users = "user " if phase.user_count == 1 else "users"
        # A baseline reports its operations when all are over: until then only the time shows that it goes on.
        took_s = measured.total_time_s or 0 if final else time.monotonic() - self._released_at
        line = (
            f"      {phase.name:<16}{phase.user_count:>5} {users}  {measured.ok_count:>6} ok"
            f"  {measured.failed_count:>4} failed  {took_s:>6.2f} s{p95}"
        )
        say(f"\r{line}\x1b[K" if sys.stdout.isatty() else line, end="\n" if final else "")
        if final and measured.errors:
            where, times = max(measured.errors.items(), key=lambda error: error[1])
            say(f"        most frequent error ({counted(times, 'time')}): {clean(' '.join(where), 160)}")
