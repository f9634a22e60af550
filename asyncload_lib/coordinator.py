"""The one process that directs a run: it releases users together, gathers what they measured, and names who is missing.

It works the same for one local process and for a master with workers. Nothing here waits without a bound.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
import gevent.event
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner

from asyncload_lib.participant import ToCoordinator, ToParticipant
from asyncload_lib.results.merge import Store

__all__ = ["Coordinator", "Member"]

logger = logging.getLogger(__name__)

LOCAL = "local"
PINGS = 8
FINAL_GRACE_S = 5.0


@dataclass
class Member:
    """One process of the run, as far as its messages tell.

    `offset_ns`: its clock minus ours, known to within half of `round_trip_ns`.
    """

    id: str
    hello: dict[str, Any] = field(default_factory=dict)
    waiting: int = 0
    done: int = 0
    phase: str | None = None
    offset_ns: int = 0
    round_trip_ns: int | None = None
    token: int = 0
    final: dict[str, Any] = field(default_factory=dict)
    last_report: float | None = None
    lost_at: float | None = None
    lost_why: str = ""
    note: str = ""

    @property
    def live(self) -> bool:
        return self.lost_at is None


class Coordinator:
    """Directs the participants of one environment; made once, in Locust's `init` event, on the master or locally."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.store = Store("none")
        self.members: dict[str, Member] = {}
        self.hellos: dict[str, dict[str, Any]] = {}
        self._changed = gevent.event.Event()
        self._token = 0
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

    # -- messages ------------------------------------------------------------------------------------------------

    def _on_hello(self, msg: Any, **_: Any) -> None:
        self.hellos[msg.node_id] = msg.data
        if msg.node_id in self.members:
            self.members[msg.node_id].hello = msg.data

    def _on_pong(self, msg: Any, **_: Any) -> None:
        member = self.members.get(msg.node_id)
        if member is None:
            return
        round_trip_ns = time.perf_counter_ns() - msg.data["sent_ns"]
        if member.round_trip_ns is None or round_trip_ns < member.round_trip_ns:
            member.round_trip_ns = round_trip_ns
            member.offset_ns = msg.data["clock_ns"] - msg.data["sent_ns"] - round_trip_ns // 2
        self._changed.set()

    def _on_state(self, msg: Any, **_: Any) -> None:
        member = self.members.get(msg.node_id)
        if member is not None:
            member.phase, member.waiting, member.done = msg.data["phase"], msg.data["waiting"], msg.data["done"]
            self._changed.set()

    def _on_part(self, msg: Any, **_: Any) -> None:
        member = self.members.get(msg.node_id)
        if member is not None and self.store.accept(msg.node_id, msg.data):
            member.last_report = time.monotonic()

    def _on_final(self, msg: Any, **_: Any) -> None:
        member = self.members.get(msg.node_id)
        if member is not None and msg.data["run_id"] == self.store.run_id:
            member.token, member.final = msg.data["token"], msg.data
            self._changed.set()

    def tell(self, message: str, data: Any, member: Member | None = None) -> None:
        """Send to one member, or to all."""
        self._runner.send_message(message, data, client_id=member.id if member and self._master else None)

    # -- a run ---------------------------------------------------------------------------------------------------

    def begin(self, run_id: str) -> None:
        """Start a run with those who are there now; a worker that joins later is no part of it."""
        self.store = Store(run_id)
        if self._master is None:
            ids = [LOCAL]
        else:
            ids = [client.id for client in self._master.clients.all if client.state != STATE_MISSING]
        self.members = {id_: Member(id_, self.hellos.get(id_, {})) for id_ in ids}

    @property
    def live(self) -> list[Member]:
        return [member for member in self.members.values() if member.live]

    def check_members(self) -> None:
        """Mark as lost whom Locust no longer hears; once lost, a member stays lost for the run."""
        if self._master is None:
            return
        for member in self.live:
            client = self._master.clients.get(member.id)
            if client is None:
                self._lose(member, "it left the run")
            elif client.state == STATE_MISSING:
                self._lose(member, "no heartbeat")

    def _lose(self, member: Member, why: str) -> None:
        member.lost_at, member.lost_why = time.time(), why
        logger.warning("worker %s is lost: %s", member.id, why)
        self._changed.set()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Park until `condition()` holds or nobody can make it hold any more; True if it holds."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            self.check_members()
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self.live:
                return condition()
            self._changed.clear()
            self._changed.wait(min(left_s, 0.25))
        return True

    def measure_clocks(self) -> None:
        """Estimate each member's clock offset from the quickest of a few round trips."""
        if self._master is None:
            return
        for member in self.live:
            member.round_trip_ns = None
            for _ in range(PINGS):
                self.tell(ToParticipant.PING, {"sent_ns": time.perf_counter_ns()}, member)
        self.wait_until(lambda: all(member.round_trip_ns is not None for member in self.live), 2.0)
        gevent.sleep(0.05)  # the first answer ends the wait; the others may be quicker round trips

    # -- a phase -------------------------------------------------------------------------------------------------

    def waiting(self, phase: str) -> int:
        """How many users stand at the gate."""
        return sum(member.waiting for member in self.live if member.phase == phase)

    def done(self, phase: str) -> int:
        """How many users have done their part."""
        return sum(member.done for member in self.live if member.phase == phase)

    def release(self, phase: str) -> None:
        """Open the gate everywhere at the same instant; ordinals run on from member to member."""
        self.measure_clocks()
        slowest_ns = max((member.round_trip_ns or 0 for member in self.live), default=0)
        lead_ns = 0 if self._master is None else 100_000_000 + 2 * slowest_ns
        at_ns = time.perf_counter_ns() + lead_ns
        base = 0
        for member in self.live:
            self.tell(ToParticipant.RELEASE, {"phase": phase, "base": base, "at_ns": at_ns + member.offset_ns}, member)
            base += member.waiting if member.phase == phase else 0

    def finish(self, phase: str) -> None:
        """Let nobody begin anything more."""
        self.tell(ToParticipant.FINISH, {"phase": phase})

    def watch(self) -> None:
        """Have every member's monitors start afresh."""
        self.tell(ToParticipant.WATCH, None)

    def finalise(self, *, stop: bool) -> list[Member]:
        """Gather everything from everybody, bounded by the stop timeout and five seconds; return who kept silent.

        `stop`: whether workers stop their users first (at the end of a run), or have done so already.
        """
        self._token += 1
        token = self._token
        self.check_members()
        for member in self.live:
            self.tell(ToParticipant.FINALISE, {"token": token, "stop": stop}, member)
        limit_s = (self.environment.stop_timeout or 0.0) + FINAL_GRACE_S
        self.wait_until(lambda: all(member.token >= token for member in self.live), limit_s)
        return [member for member in self.live if member.token < token]

    def start_skew_s(self) -> float | None:
        """Return the time between the first and the last start of the last released phase, over all members."""
        starts_ns: list[float] = []
        for member in self.members.values():
            final = member.final
            if final.get("released_ns"):
                released_ns = final["released_ns"] - member.offset_ns
                starts_ns += [released_ns + final["first_start_us"] * 1e3, released_ns + final["last_start_us"] * 1e3]
        return (max(starts_ns) - min(starts_ns)) / 1e9 if starts_ns else None
