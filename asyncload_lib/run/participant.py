"""A process that runs users: it records what they do and does what the run's coordinator asks.

In a local run this process is its own coordinator; on a worker the coordinator is the master. Either way they speak in
Locust's custom messages, so there is one way through the code.
"""

import gc
import itertools
import logging
import time
from typing import Any

import gevent
from locust.env import Environment
from locust.exception import RPCError
from locust.runners import WorkerRunner

from asyncload_lib.results.arrays import load_numpy
from asyncload_lib.results.model import utc
from asyncload_lib.results.recorder import Recorder
from asyncload_lib.results.text import OTHER, error_text
from asyncload_lib.run.health import LOOP_TIMEOUT_S, ProcessHealth, call_or_give_up
from asyncload_lib.run.introduction import introduction
from asyncload_lib.run.members import REPORT_EARLY, REPORT_INTERVAL_S, Silence
from asyncload_lib.run.messages import PLAN, ToCoordinator, ToParticipant, fitted, size_of
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users import events
from asyncload_lib.users.base import AsyncUser, loop_thread
from asyncload_lib.users.chat import ChatUser
from asyncload_lib.users.direct import forget_servers
from asyncload_lib.users.files import directory_problems
from asyncload_lib.users.gate import gate
from asyncload_lib.users.measure import tally

__all__ = ["Participant"]

logger = logging.getLogger(__name__)

WHOLE_EVERY = 10
"""Every how many reports one repeats what cannot change any more, should a report have been lost with a connection."""

NONE_YET = (0, 0)
"""No user has come to the gate."""

ENDING_LIMIT_S = 1.0
"""How long users that are done may take to end."""

YOUNG_OBJECTS = 10_000
"""How many new objects set off a collection. Requests that wait for the hub are some thousand objects: with
CPython's 700 they are looked through 200 times a second, for 8 % of the CPU, and none of them is garbage."""

LISTENERS_LIMIT_S = 10.0
"""How long listeners of Locust's events may take over what has been reported, at the end of a ramp and of a run."""

MAX_EXCEPTIONS = 50
"""Texts of exceptions that are told apart; what comes beyond is counted as "other"."""

ORPHAN_GRACE_S = 2.0
"""How long operations in flight may still take when the master is gone."""


class Participant:
    """Wires one environment's users to its recorder; made once, in Locust's `init` event."""

    def __init__(self, environment: Environment, settings: Settings, target: Target, health: ProcessHealth) -> None:
        self.environment = environment
        runner = environment.runner
        assert runner is not None
        self._runner = runner
        self._worker = runner if isinstance(runner, WorkerRunner) else None
        self.settings = settings
        self.thread = loop_thread()
        self.recorder = Recorder("none")
        self.health = health
        self._target = target
        self._plan: dict[str, Any] = {}
        self._seen_started = tally.started
        self._state = NONE_YET
        """How many users have come to the gate, and how many of them have done their part."""
        self._told = NONE_YET
        """The same as the coordinator knows it."""
        self._released_ns = 0
        self._starts_us: list[float] = []
        """How late the users of the phase at hand began after their release."""
        self._watched_starts_us: list[list[float]] = []
        """The same of every phase since the monitors began anew, this one the last."""
        self._exceptions: dict[str, int] = {}
        """What tasks have raised in the run so far, by user class and text."""
        self._not_created = ""
        """What kept users of the run from being created, if anything did."""
        self._stopped_early = ""
        """Why this process stopped the users of the run by itself, and when, if it did."""
        self._recording = False
        self._is_prepared = False
        self._master_silence = Silence()
        self._listen()
        gevent.spawn(self._report_forever)
        if self._worker is not None:
            environment.events.heartbeat_received.add_listener(lambda **_: self._master_silence.heard())
            environment.events.test_stop.add_listener(self._on_worker_stopped)
            gevent.spawn(self._watch_master_forever, self._worker)

    # -- wiring --------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for message, listener in (
            (ToParticipant.IDENTIFY, lambda **_: self.hello()),
            (ToParticipant.PING, self._on_ping),
            (ToParticipant.RELEASE, self._on_release),
            (ToParticipant.FINISH, self._on_finish),
            (ToParticipant.WATCH, self._on_watch),
        ):
            self._runner.register_message(message, listener)
        # Stopping users takes as long as the stop timeout; the message loop must go on meanwhile.
        self._runner.register_message(ToParticipant.FINALISE, self._on_finalise, concurrent=True)
        self.environment.events.test_start.add_listener(self.on_test_start)
        self.environment.events.test_stopping.add_listener(self._on_test_stopping)
        self.environment.events.request.add_listener(self.recorder.on_request)
        self.environment.events.user_error.add_listener(self._on_user_error)
        events.request_metrics.add_listener(self._on_metrics)
        events.request_abandoned.add_listener(self._on_abandoned)
        self.thread.after_batch(self._after_batch)
        gate.on_change = lambda waiting, done: self.thread.to_hub(self._on_gate, waiting, done)
        # Not with the next batch: a user on the hub may begin before that.
        gate.on_release = lambda at_ns: self.thread.to_hub_at_once(self._on_released, at_ns)

    def send(self, message: str, data: Any) -> bool:
        """Send to the coordinator; False if that failed. A later snapshot makes up for a lost one.

        What cannot be packed is found here: in Locust's own sender it would be tried again and again.
        """
        try:
            size_of(data)
            self._runner.send_message(message, data)
        except (RPCError, TypeError, ValueError, OverflowError) as error:
            logger.warning("%s could not be sent to the master: %s", message, error)
            return False
        return True

    def hello(self) -> None:
        """Introduce this process, and say why its users could not write files, if so."""
        unwritable = directory_problems(self.settings)
        self.send(ToCoordinator.HELLO, {**introduction(self.settings, self.environment), "unwritable": unwritable})

    # -- a test begins -------------------------------------------------------------------------------------------

    def on_test_start(self, environment: Environment, **_: Any) -> None:
        """Make ready for a test; also for one that was announced before this participant was there."""
        plan = getattr(environment.parsed_options, PLAN, None)
        if plan is None:
            return
        self._plan, self._state, self._told = plan, NONE_YET, NONE_YET
        if plan["run_id"] != self.recorder.run_id:
            requests = self.environment.events.request
            requests.remove_listener(self.recorder.on_request)
            self.recorder = Recorder(plan["run_id"])
            requests.add_listener(self.recorder.on_request)
            self._exceptions = {}
            self._not_created = self._stopped_early = ""
            forget_servers()
        AsyncUser.run_id = plan["run_id"]
        AsyncUser.settings = self.settings
        ChatUser.timeout_s = plan["timeout_s"]
        AsyncUser.target = Target.from_wire(plan["target"]) if plan["target"] else self._target
        call_or_give_up(self.thread, self._reset_gate(), LOOP_TIMEOUT_S)
        if not (plan["gated"] and self._is_prepared):  # a scenario is prepared for before it is watched
            self._prepare()
        self._state = self._told = NONE_YET
        self._released_ns, self._starts_us = 0, []
        self._seen_started = tally.started
        self.health.start()
        self._watched_starts_us.append(self._starts_us)
        self._recording = True
        if not plan["gated"]:  # the phases of a scenario are watched as one, from its WATCH on
            self._watch_anew()
            self._begin(plan["phase"], time.perf_counter_ns())

    def _on_test_stopping(self, **_: Any) -> None:
        """Let users that have done their part end by themselves; Locust would complain that they just did."""
        self.recorder.stopping()
        waiting, done = self._state
        deadline = time.monotonic() + ENDING_LIMIT_S
        while self._plan.get("gated") and done == waiting and self._runner.user_count and time.monotonic() < deadline:
            gevent.sleep(0.01)

    @staticmethod
    async def _reset_gate() -> None:
        gate.reset()

    def _begin(self, phase: str, at_ns: int) -> None:
        self.recorder.begin(phase, self._users, at_ns)

    @property
    def _users(self) -> int:
        """How many users the phase has: those at the gate, or in a run without scenarios all there are."""
        return self._state[0] if self._plan["gated"] else int(self._runner.user_count)

    def on_spawning_complete(self, **_: Any) -> None:
        """Note that users have been spawned; without a gate, what is measured begins when they are there.

        A master says so a second after it has asked for the last ones, whether or not its workers have come to it.
        """
        if not self._recording:
            return
        spawning = None if self._worker is None else self._worker.spawning_greenlet
        if self._plan["gated"]:
            self._tell_state()
        elif spawning is not None and not spawning.dead:
            gevent.spawn(self._ramp_up_after, spawning, self.recorder.run_id)
        else:
            self._ramped_up()

    def _ramp_up_after(self, spawning: gevent.Greenlet, run_id: str) -> None:
        spawning.join()
        was_killed = isinstance(spawning.value, gevent.GreenletExit)  # by the end of the test, or for a newer spawning
        if self._recording and self.recorder.run_id == run_id and not was_killed:
            self._ramped_up()

    def _ramped_up(self) -> None:
        """Enter the phase that is measured: until now users were still being spawned."""
        if self._plan["phase"] == "ramp":
            if self._runner.user_count >= self._runner.target_user_count:  # a later step has created them
                self._not_created = ""
            self.thread.flush_within(LISTENERS_LIMIT_S)
            self._count_started()
            self._plan = {**self._plan, "phase": "run"}
            self._watch_anew()
            self.recorder.go_on("run", self._users)
        else:
            self._begin("run", time.perf_counter_ns())

    def _note_not_created(self) -> None:
        """Remember what Locust's spawning of users ended with; the next spawning takes its place."""
        spawning = self._runner.spawning_greenlet
        if spawning is not None and spawning.exception is not None:
            self._not_created = self._not_created or error_text(spawning.exception)

    # -- what users do -------------------------------------------------------------------------------------------

    def _on_metrics(self, environment: Any, request: str, metrics: dict[str, list[float]], **_: Any) -> None:
        if environment is not self.environment:
            return
        for metric, values_us in metrics.items():
            for value_us in values_us:
                self.recorder.add_metric(metric, value_us, request)
        if self._released_ns and "send_delay" in metrics:
            self._starts_us.extend(metrics["send_delay"])

    def _on_abandoned(self, environment: Any, request_type: str, name: str, age_us: float, **_: Any) -> None:
        if environment is self.environment:
            self.recorder.add_abandoned(request_type, name, age_us)

    def _on_user_error(self, user_instance: Any, exception: BaseException, **_: Any) -> None:
        user = getattr(user_instance, "user", user_instance)  # Locust names the task set that a task belongs to
        text = f"{type(user).__name__}: {error_text(exception)}"
        if text not in self._exceptions and len(self._exceptions) >= MAX_EXCEPTIONS:
            text = OTHER
        self._exceptions[text] = self._exceptions.get(text, 0) + 1

    def _after_batch(self) -> None:
        self._count_started()
        if self._state != self._told:
            self._tell_state()

    def _count_started(self) -> None:
        if self._plan.get("gated") and not self._released_ns:
            return  # those that the gate lets out now belong to the phase that begins when the hub hears of it
        started = tally.started
        if started != self._seen_started and self._recording:
            self.recorder.add_started(started - self._seen_started)
        self._seen_started = started

    def _tell_state(self) -> None:
        waiting, done = state = self._state
        counts = {"users": self._runner.target_user_count, "waiting": waiting, "done": done}
        if self.send(ToCoordinator.STATE, {"phase": self._plan.get("phase"), **counts}):
            self._told = state

    def _on_gate(self, waiting: int, done: int) -> None:
        self._state = (waiting, done)

    def _on_released(self, at_ns: int) -> None:
        self._released_ns = at_ns
        self._begin(self._plan["phase"], at_ns)

    # -- what the coordinator asks -------------------------------------------------------------------------------

    def _on_ping(self, msg: Any, **_: Any) -> None:
        self.send(ToCoordinator.PONG, {"sent_ns": msg.data["sent_ns"], "clock_ns": time.perf_counter_ns()})

    def _on_release(self, msg: Any, **_: Any) -> None:
        if msg.data["phase"] == self._plan.get("phase"):
            self.thread.post(gate.release, msg.data["base"], msg.data["at_ns"])

    def _on_finish(self, msg: Any, **_: Any) -> None:
        if msg.data["phase"] == self._plan.get("phase"):
            self.thread.post(gate.finish)

    def _on_watch(self, **_: Any) -> None:
        self._prepare()
        self._watch_anew()

    def _prepare(self) -> None:
        """Do now what would stall the loop for a tenth of a second amid the load: import numpy, collect garbage.

        A full collection takes 100 ms in a process with Locust in it; what exists now need not be looked at again.
        """
        load_numpy()
        gc.collect()
        gc.freeze()
        young, *older = gc.get_threshold()
        if 0 < young < YOUNG_OBJECTS:
            gc.set_threshold(YOUNG_OBJECTS, *older)
        self._is_prepared = True

    def _watch_anew(self) -> None:
        self.health.reset()
        self._watched_starts_us.clear()

    def _on_finalise(self, msg: Any, **_: Any) -> None:
        if msg.data["stop"] and self._worker is not None:
            self._worker.stop()
        self.finalise(msg.data["token"])

    def finalise(self, token: int, *, farewell: bool = False) -> None:
        """Report all that was measured, and say that it is all; `farewell`: this process ends by itself, early."""
        if not self.thread.flush_within(LISTENERS_LIMIT_S):  # then fewer operations have ended than were started
            logger.error("a listener of Locust's events takes over %g s: the rest is not counted", LISTENERS_LIMIT_S)
        self.recorder.end()
        self._note_not_created()
        self._send_parts()
        self._send_locust_stats()
        self.send(
            ToCoordinator.FINAL,
            {
                "token": token,
                "farewell": farewell,
                "run_id": self.recorder.run_id,
                "exceptions": self._exceptions,
                "not_created": self._not_created,
                "stopped_early": self._stopped_early,
                "health": self._health(),
                "released_ns": self._released_ns,
                "first_start_us": min(self._starts_us, default=None),
                "last_start_us": max(self._starts_us, default=None),
            },
        )

    def _send_parts(self, *, changes_only: bool = False) -> None:
        self._count_started()  # where no user is async there are no batches
        for part in self.recorder.snapshot_parts(changes_only=changes_only):
            self.send(ToCoordinator.PART, part)

    def _health(self) -> dict[str, Any] | None:
        try:
            return fitted(self.health.report(self._watched_starts_us))
        except Exception:  # the figures of the monitors are worth less than the acknowledgement they would hold up
            logger.exception("this process could not report its own health")
            return None

    def _send_locust_stats(self) -> None:
        """Bring Locust's own view up to date; its master waits a whole second for users it believes to be running."""
        if self._worker is not None:
            data: dict[str, Any] = {}
            self.environment.events.report_to_master.fire(client_id=self._worker.client_id, data=data)
            self.send("stats", data)

    def _report_forever(self) -> None:
        for number in itertools.count():
            gevent.sleep(REPORT_EARLY * self._plan.get("report_interval_s", REPORT_INTERVAL_S))
            if self._recording:
                try:
                    self._note_not_created()
                    self._send_parts(changes_only=number % WHOLE_EVERY > 0)
                    if self._told != NONE_YET:
                        self._tell_state()  # what was told may be lost, and a phase waits for it
                except Exception:  # whatever it was, the next report may succeed, and it will hold everything
                    logger.exception("a report could not be made")

    # -- on a worker -------------------------------------------------------------------------------------------------

    def _on_worker_stopped(self, **_: Any) -> None:
        # Locust's worker now sleeps out its stop timeout before it can be started again, though its users are gone.
        # The next start brings the timeout anew.
        self.environment.stop_timeout = 0.0

    def _watch_master_forever(self, worker: WorkerRunner) -> None:
        """Stop the load when the master is gone; Locust itself would go on for a minute."""
        while True:
            gevent.sleep(Silence.TICK_S)
            if self._master_silence.tick() and worker.user_count:
                logger.error("the master has fallen silent: stopping the load")
                # If it was only paused it will want results, and starts nobody anew.
                self._stopped_early = f"stopped its load at {utc(time.time())}: it had not heard the master for "
                self._stopped_early += f"{Silence.LIMIT_TICKS * Silence.TICK_S:g} s"
                self.environment.stop_timeout = ORPHAN_GRACE_S
                worker.stop()

    def close(self) -> None:
        """End the loop thread; the monitors have ended before."""
        self._recording = False
        events.request_metrics.remove_listener(self._on_metrics)
        events.request_abandoned.remove_listener(self._on_abandoned)
        self.thread.close()
