"""Keeps the processes of a run together: releases their users at once, gathers what they measure, names the missing.

It works the same for one local process and for a master with workers. Nothing here waits without a bound.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import gevent
import gevent.event
import gevent.lock
from locust.env import Environment
from locust.runners import STATE_INIT, STATE_MISSING, MasterRunner

from asyncload_lib.results.arrays import load_numpy
from asyncload_lib.results.merge import Store
from asyncload_lib.run.members import Member, Silence, report_interval_s
from asyncload_lib.run.messages import ToCoordinator, ToParticipant
from asyncload_lib.users.base import FLUSH_LIMIT_S, SECOND_STOP_LIMIT_S, AsyncUser

__all__ = ["Coordinator"]

logger = logging.getLogger(__name__)

LOCAL = "local"
PINGS = 8
PING_PAUSE_S = 0.005
PONG_LIMIT_S = 2.0
HELLO_LIMIT_S = 3.0
FINAL_GRACE_S = AsyncUser.STOP_LIMIT_S + SECOND_STOP_LIMIT_S + FLUSH_LIMIT_S + 3.0
"""How long after the stop timeout a final report is waited for: users that are killed may still clean up."""
READY_LIMIT_S = 5.0
MISSING_FLOOR = -30
"""Locust forgets a missing worker when its count of missed heartbeats comes to -60, and spawns users anew."""


class Coordinator:
    """The director's line to all participants; made once, in Locust's `init` event, on the master or locally."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.store = Store("none")
        self.members: dict[str, Member] = {}
        self._hellos: dict[str, dict[str, Any]] = {}
        """How each process that may take part has introduced itself, whether a run is on or not."""
        self.keeps_missing = False
        """Whether Locust is kept from replacing the users of a missing worker by itself, in the middle of a phase."""
        self._changed = gevent.event.Event()
        self._finalising = gevent.lock.RLock()
        self._finalised = False
        self._watching = False
        self._phase = ""
        self._token = 0
        self._watched_from = 0
        """Final reports up to this token are of monitors that had not begun anew yet."""
        runner = environment.runner
        assert runner is not None
        self._runner = runner
        self._master = runner if isinstance(runner, MasterRunner) else None
        for message, listener in (
            (ToCoordinator.HELLO, self._on_hello),
            (ToCoordinator.PONG, self._on_pong),
            (ToCoordinator.STATE, self._on_state),
            (ToCoordinator.PART, self._on_part),
            (ToCoordinator.FINAL, self._on_final),
        ):
            runner.register_message(message, listener)
        if self._master is not None:
            environment.events.heartbeat_sent.add_listener(lambda client_id, **_: self._member(client_id))
            gevent.spawn(self._watch_forever)

    # -- messages; one that is malformed raises here, is logged by Locust, and changes nothing -----------------------

    def _member(self, node_id: str) -> Member | None:
        """Return who sent a message, having noted that it lives; a worker that joined late becomes a member."""
        member = self.members.get(node_id)
        if member is None and self._watching and self._master is not None and node_id in self._master.clients:
            member = self.members[node_id] = Member(node_id, self._hellos.get(node_id, {}), is_late=True)
        if member is not None:
            if member.lost_at is not None and not member.live and not member.left and self._watching:
                logger.warning("worker %s is back", member.id)
            member.hear()
        return member

    def _on_hello(self, msg: Any, **_: Any) -> None:
        self._hellos[msg.node_id] = dict(msg.data)
        if msg.node_id in self.members:
            self.members[msg.node_id].hello = dict(msg.data)
            self._changed.set()

    def _on_pong(self, msg: Any, **_: Any) -> None:
        sent_ns, clock_ns = int(msg.data["sent_ns"]), int(msg.data["clock_ns"])
        if member := self._member(msg.node_id):
            member.measure_clock(sent_ns, clock_ns, time.perf_counter_ns())
            self._changed.set()

    def _on_state(self, msg: Any, **_: Any) -> None:
        counts = [int(msg.data[key]) for key in ("users", "waiting", "done")]
        member = self._member(msg.node_id)
        if member is not None and msg.data["phase"] != member.lost_in:
            member.phase = msg.data["phase"]
            member.users, member.waiting, member.done = counts
            self._changed.set()

    def _on_part(self, msg: Any, **_: Any) -> None:
        member = self._member(msg.node_id)
        if member is not None and self.store.accept(msg.node_id, msg.data):
            member.last_report = time.monotonic()

    def _on_final(self, msg: Any, **_: Any) -> None:
        token, is_farewell = int(msg.data["token"]), bool(msg.data["farewell"])
        member = self._member(msg.node_id)
        if member is None:
            return
        member.token = max(member.token, token)
        if msg.data["run_id"] == self.store.run_id:  # else it joined late, and has had no users yet
            member.final = msg.data
            if is_farewell or token > self._watched_from:
                member.watched = msg.data
        if is_farewell and self._watching:
            member.left = True
            self._lose(member, "it was told to stop (SIGTERM or Ctrl-C) and handed over everything it had measured")
        self._changed.set()

    def tell(self, message: str, data: Any, *members: Member) -> None:
        """Send to these members; a message to one that cannot be reached is lost."""
        for member in members:
            self._runner.send_message(message, data, client_id=member.id if self._master else None)

    # -- who is there ------------------------------------------------------------------------------------------------

    def begin(self, run_id: str) -> None:
        """Start a run with those who are there now, and learn who they are."""
        load_numpy()
        self.store = Store(run_id)
        ids: Iterable[str] = (LOCAL,)
        if self._master is not None:
            clients = self._master.clients
            ids = [client.id for client in clients.all if client.state != STATE_MISSING]
            # Whoever has just been stopped is no client of Locust's for a while, and comes back by itself.
            known = {*clients, *self.members}
            self._hellos = {id_: hello for id_, hello in self._hellos.items() if id_ in known}
        self.members = {id_: Member(id_) for id_ in ids}
        self._watching = True
        self.tell(ToParticipant.IDENTIFY, None, *self.live)
        self.wait_until(lambda: all(member.hello for member in self.live), HELLO_LIMIT_S)

    def end(self) -> None:
        """Note no more who comes and goes: the run is over."""
        self._watching = False

    @property
    def live(self) -> list[Member]:
        """Those who can be heard now."""
        return [member for member in self.members.values() if member.live]

    @property
    def reachable(self) -> list[Member]:
        """Those who can still answer, at once or when they wake up: all but those who have left in order."""
        return [member for member in self.members.values() if not member.left]

    def _watch_forever(self) -> None:
        assert self._master is not None
        while True:
            gevent.sleep(Silence.TICK_S)
            if not self._watching:
                continue
            for member in self.live:
                if member.silence.tick():
                    self._lose(member, "it fell silent")
            for client in self._master.clients.missing if self.keeps_missing else ():
                client.heartbeat = max(client.heartbeat, MISSING_FLOOR)

    def _lose(self, member: Member, why: str) -> None:
        member.lose(why, self._phase)
        logger.warning("worker %s is lost: %s", member.id, why)
        self._changed.set()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Park until `condition()` holds or nobody can make it hold any more; True if it holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self.live:
                return condition()
            self._changed.clear()
            self._changed.wait(min(left_s, 0.25))
        return True

    def wait_ready(self) -> None:
        """Wait until Locust has heard from every live worker that it can be started again."""
        master = self._master
        if master is None:
            return
        self.wait_until(lambda: all(_state(master, member.id) == STATE_INIT for member in self.live), READY_LIMIT_S)

    def measure_clocks(self) -> None:
        """Estimate each member's clock offset from the quickest of a few round trips."""
        if self._master is None:
            return
        members = self.live
        wanted = {member.id: member.pongs + PINGS for member in members}
        for _ in range(PINGS):  # one after another: sent at once, they would all wait for the same thing
            for member in members:
                self.tell(ToParticipant.PING, {"sent_ns": time.perf_counter_ns()}, member)
            gevent.sleep(PING_PAUSE_S)
        self.wait_until(lambda: all(m.pongs >= wanted[m.id] for m in members if m.live), PONG_LIMIT_S)

    # -- a phase -----------------------------------------------------------------------------------------------------

    def waiting(self, phase: str) -> int:
        """How many users stand at the gate."""
        return sum(member.waiting for member in self.live if member.phase == phase)

    def done(self, phase: str) -> int:
        """How many users have done their part."""
        return sum(member.done for member in self.live if member.phase == phase)

    def gathered(self, phase: str, users: int) -> bool:
        """Whether all users of the phase stand at the gate, or all that are left when a worker took some with it."""
        if self.waiting(phase) >= users:
            return True
        is_somebody_gone = any(member.lost_in == phase for member in self.members.values())
        return is_somebody_gone and all(m.phase == phase and m.waiting >= m.users for m in self.live)

    def release(self, phase: str) -> None:
        """Open the gate everywhere at the same instant; ordinals run on from member to member."""
        self.measure_clocks()
        slowest_ns = max((member.round_trip_ns or 0 for member in self.live), default=0)
        lead_ns = 0 if self._master is None else 100_000_000 + 2 * slowest_ns
        at_ns = time.perf_counter_ns() + lead_ns
        base = 0
        # A silent one is told as well: if it wakes up in time, its users must not stand at the gate for ever.
        for member in sorted(self.reachable, key=lambda member: not member.live):
            self.tell(ToParticipant.RELEASE, {"phase": phase, "base": base, "at_ns": at_ns + member.offset_ns}, member)
            base += member.waiting if member.phase == phase else 0

    def finish(self, phase: str) -> None:
        """Let nobody begin anything more."""
        self.tell(ToParticipant.FINISH, {"phase": phase}, *self.reachable)

    def watch(self) -> None:
        """Have every member's monitors start afresh; what they had found before is nobody's any more."""
        self._watched_from = self._token
        for member in self.members.values():
            member.watched = {}
        self.tell(ToParticipant.WATCH, None, *self.reachable)

    @property
    def report_interval_s(self) -> float:
        """How often the members report."""
        return report_interval_s(len(self.members))

    def start_test(self, phase: str) -> None:
        """Note that a test begins, which `finalise` will have to end."""
        self._phase = phase
        self._finalised = False

    def finalise(self, *, stop: bool) -> list[Member]:
        """Gather everything from everybody, bounded by the stop timeout and FINAL_GRACE_S; return who kept silent.

        `stop`: whether workers stop their users first, or have done so already. Once per test: Locust may come here
        several times at once, and whoever comes second waits for the first.
        """
        with self._finalising:
            if self._finalised:
                return []
            self._token += 1
            token = self._token
            asked = [member for member in self.reachable if not self._is_starting(member)]
            self.tell(ToParticipant.FINALISE, {"token": token, "stop": stop}, *asked)
            limit_s = (self.environment.stop_timeout or 0.0) + FINAL_GRACE_S
            self.wait_until(lambda: all(member.token >= token for member in asked if member.live), limit_s)
            self._finalised = True
            return [member for member in asked if member.live and member.token < token]

    def _is_starting(self, member: Member) -> bool:
        """Whether it joined late, is not heard of and has no users: it has done nothing, and hears nothing."""
        client = self._master.clients.get(member.id) if self._master is not None else None
        return member.is_late and not member.hello and (client is None or not client.user_count)

    def start_skew_s(self) -> float | None:
        """Return the time between the first and the last start of the last released phase, over all members."""
        starts_ns: list[float] = []
        for member in self.members.values():
            final = member.final
            if member.token == self._token and final.get("first_start_us") is not None:
                released_ns = final["released_ns"] - member.offset_ns
                starts_ns += [released_ns + final["first_start_us"] * 1e3, released_ns + final["last_start_us"] * 1e3]
        return (max(starts_ns) - min(starts_ns)) / 1e9 if starts_ns else None


def _state(master: MasterRunner, id_: str) -> str | None:
    client = master.clients.get(id_)
    return None if client is None else client.state
