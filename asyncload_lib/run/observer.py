"""The target's event loop during a scenario, by two witnesses: the probe inside it, and requests from outside."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from pyreqwest.client import Client
from pyreqwest.exceptions import PyreqwestError

from asyncload_lib.eventloop.asgi import TOKEN_HEADER
from asyncload_lib.eventloop.disagreement import disagreement, unexplained
from asyncload_lib.eventloop.lag import LoopMonitor
from asyncload_lib.eventloop.probe_answer import NOTHING_SEEN, Confirmation, answer_of, confirmed, inside_rows
from asyncload_lib.eventloop.thread import LoopThread
from asyncload_lib.eventloop.witness import OutsideWitness
from asyncload_lib.redaction import redact
from asyncload_lib.results.event_loops import NOT_INSIDE
from asyncload_lib.run import census
from asyncload_lib.run.health import LOOP_TIMEOUT_S, call_or_give_up
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users.http import shared_client

__all__ = ["TargetObserver"]

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 10.0
AMID_LOAD_TIMEOUT_S = 2.0
"""How long a probe has to begin anew while the load goes on: what is measured begins after that."""

_NO_TOKEN = "no probe token is known: set loop.probe_token to that of the LoopProbe in the target"
_NO_PROBE = ": no LoopProbe is there; mount one in the target, or set loop.probe_path to where it is"
_REFUSED = {401: ": the token is wrong; set loop.probe_token to that of the LoopProbe in the target", 404: _NO_PROBE}
"""What an answer of this status, where a probe was asked, comes from, and what to do."""

Json = dict[str, Any]


class TargetObserver:
    """Watches one target from `start()` to `stop()`; on the node that directs the run. For the hub's thread.

    A target without a host is not watched, unless `unwatched` says why it should be; one without a probe, or with a
    token that is not known, only from outside. `monitor`: the one that watches the loop of `thread`. `load`: see
    `OutsideWitness`.
    """

    def __init__(
        self,
        monitor: LoopMonitor,
        thread: LoopThread,
        target: Target,
        settings: Settings,
        unwatched: str = "",
        load: Callable[[], tuple[int, int]] = lambda: (0, 0),
    ) -> None:
        self._thread = thread
        self._host = redact(target.host or "")
        self._token = target.probe_token
        self._probe_url = f"{target.host}{settings.loop.probe_path}"
        self._limit_s, self._period_s = settings.loop.limit, settings.loop.period
        self._witness: OutsideWitness | None = None
        self._unwatched = unwatched
        if target.host:
            try:
                self._witness = OutsideWitness(
                    f"{target.host}{settings.loop.witness_path}",
                    rate=settings.loop.witness_rate,
                    limit_s=settings.loop.limit,
                    monitor=monitor,
                    load=load,
                )
            except ValueError:
                self._unwatched = f"{self._host} is not an http:// or https:// address"
        self._running = False
        self._problem = ""
        self._is_probe: bool | None = None
        """Whether there is a probe behind the path; None as long as nothing has answered for it."""
        self._confirmation: Confirmation | None = None
        self._census: census.Census | None = None

    def start(self) -> None:
        """Begin to watch from outside; raises AsyncloadError when the own loop does not react."""
        if self._witness is None or self._running:
            return
        self._running = True
        try:
            call_or_give_up(self._thread, self._start(), LOOP_TIMEOUT_S)
        except BaseException:
            self._running = False
            raise

    async def _start(self) -> None:
        assert self._witness is not None
        if self._running:  # else it was given up, and the loop has come to it all the same
            self._witness.start()

    def reset(self, *, amid_load: bool = False) -> bool:
        """Have both witnesses begin anew; False if they could not.

        `amid_load`: a probe that cannot confirm it in the middle of the load is on a loop that hangs, or has a long
        queue. Then both witnesses go on instead: such a target must not get away with what it did so far.
        """
        if not self._running:
            return True
        before, self._confirmation = self._confirmation, None
        if amid_load and before is not None and before.pids:
            self._confirmation = replace(before, asked_again=True)
        limit_s = AMID_LOAD_TIMEOUT_S if amid_load else PROBE_TIMEOUT_S
        try:
            self._thread.call(self._reset(limit_s), limit_s + LOOP_TIMEOUT_S)
        except TimeoutError:
            logger.error("the target's witnesses could not be reset: the event loop that runs the users is blocked")
        return self._confirmation is None or not self._confirmation.asked_again

    async def _reset(self, limit_s: float) -> None:
        assert self._witness is not None
        self._end_census()
        if self._confirmation is None:
            self._witness.reset()
        if self._token:
            ask_s = census.ASK_TIMEOUT_S
            # To make it takes some 10 ms: before there is load.
            anew = shared_client(self._thread, ask_s, keeps_connections=False)
            limits = f"limit_s={self._limit_s}&period_s={self._period_s}"
            sent_s = time.perf_counter()
            answer = await self._ask("POST", f"{self._probe_url}/reset?{limits}", limit_s)
            pids, problem = (frozenset(), self._problem) if answer is None else (confirmed(answer), "")
            if pids or self._confirmation is None:
                self._confirmation = Confirmation(sent_s, time.perf_counter(), pids, problem)
            if pids:
                self._witness.reset()  # what held up the answer was over when the probe began anew
            if self._confirmation.pids and self._running:
                self._census = census.Census(partial(self._ask_anew, anew), self._confirmation)

    def report(self) -> list[Json]:
        """Return what was seen since the last reset: one row per worker of the target, then the one from outside."""
        if not self._running:
            return [self._unjudged(self._unwatched)] if self._unwatched else []
        try:
            self._thread.call(asyncio.sleep(0), LOOP_TIMEOUT_S)  # one that is blocked is found at once
            limit_s = PROBE_TIMEOUT_S + census.LIMIT_S + census.ASK_TIMEOUT_S + LOOP_TIMEOUT_S
            rows: list[Json] = self._thread.call(self._report(), limit_s)
        except TimeoutError:
            return [self._unjudged("the event loop that runs the users and watches the target hangs")]
        return rows

    def _unjudged(self, why: str) -> Json:
        row = {**NOTHING_SEEN, "name": "target", "witness": "outside", "limit_s": self._limit_s}
        return {**row, "process": self._host, "note": f"Not watched: {why}."}

    async def _report(self) -> list[Json]:
        assert self._witness is not None
        confirmation, census_, asked_s = self._confirmation, self._census, time.perf_counter()
        seen = self._witness.report()  # first: the probe must know of whatever is in it
        answer = await self._ask("GET", self._probe_url, PROBE_TIMEOUT_S) if self._token else None
        outside = {**(self._witness.report() if answer is None else seen), "process": self._host}
        watched_on = confirmation.note if confirmation else ""
        outside["note"] = f"{outside['note']} {watched_on}".strip()
        if answer is None:
            return [self._alone(outside)]
        answered_s = time.perf_counter()
        others = {} if census_ is None else await census_.complete()
        rows = inside_rows(answer, confirmation, asked_s, answered_s, others)
        inside = [_held_to(self._limit_s, row) for row in rows]
        judged = [row for row in inside if row["blocked"] is not None]
        sentences = filter(None, (disagreement(row, outside) for row in judged))
        # Told, and not judged: a packet that was sent again on its way to a free loop looks like this as well.
        elsewhere = unexplained(judged, outside) if len(judged) == len(inside) and not watched_on else None
        outside["note"] = " ".join(filter(None, [outside["note"], *dict.fromkeys(sentences), elsewhere]))
        return [*inside, outside]

    def _alone(self, outside: Json) -> Json:
        """Return what was seen from outside where nothing was from inside, with the reason for that."""
        note = f"{outside['note']} {NOT_INSIDE}{self._problem or _NO_TOKEN}."
        if self._is_probe:
            note += " Its probe answered earlier: the target has died or hangs, and what the probe saw is lost."
        if self._token and self._is_probe is not False and not outside["blocked"]:
            # Seen from outside it may pass for idle; the one that knows did not answer.
            return {**outside, "note": note, "blocked": None, "proven_stall": None}
        return {**outside, "note": note}

    async def _ask(self, method: str, url: str, limit_s: float) -> Json | None:
        """Return the probe's answer; without one, `_problem` says why, and `_is_probe` may have turned out false."""
        shown = redact(url)
        try:
            client = shared_client(self._thread, PROBE_TIMEOUT_S)
            status, body = await self._fetch(client, method, url, limit_s)
        except (PyreqwestError, ValueError, OSError) as error:
            self._problem = f"{shown}: {type(error).__name__}"
            return None
        if status != 200:
            self._problem = f"{shown} answered {status}{'' if self._is_probe else _REFUSED.get(status, '')}"
            found = None
        elif (found := answer_of(body, reset=method == "POST")) is None:
            self._problem = f"{shown} gave an answer that is not a probe's{'' if self._is_probe else _NO_PROBE}"
        if found is not None:
            self._is_probe = True
        elif self._is_probe is None and status < 500:
            self._is_probe = False
        return found

    async def _fetch(self, client: Client, method: str, url: str, limit_s: float) -> tuple[int, bytes]:
        request = client.request(method, url).header(TOKEN_HEADER, self._token or "")
        answer = await request.timeout(timedelta(seconds=limit_s)).build().send()
        return answer.status, bytes(await answer.bytes())

    async def _ask_anew(self, client: Client) -> tuple[int, bytes] | None:
        with contextlib.suppress(PyreqwestError, ValueError, OSError):
            return await self._fetch(client, "GET", self._probe_url, census.ASK_TIMEOUT_S)
        return None

    def _end_census(self) -> None:
        if self._census is not None:
            self._census.stop()
            self._census = None

    def stop(self) -> None:
        """Stop watching; a loop that hangs is left to itself."""
        if not self._running:
            return
        self._running = False
        try:
            self._thread.call(self._stop(), LOOP_TIMEOUT_S)
        except TimeoutError:
            logger.error("the observer could not be stopped: the event loop that runs the users is blocked")

    async def _stop(self) -> None:
        assert self._witness is not None
        self._end_census()
        await self._witness.stop()


def _held_to(limit_s: float, row: Json) -> Json:
    """Judge a worker that watched under a limit of its own, such as one that came up after the reset, by the run's."""
    own_s = row["limit_s"]
    if own_s in (limit_s, None):
        return row
    blocked = row["blocked"]
    if blocked and own_s < limit_s:
        blocked = row["max_stall"] >= limit_s
    elif blocked is False and own_s > limit_s:
        blocked = None
    note = f"It watched with a limit of {own_s * 1e3:.4g} ms instead of loop.limit ({limit_s * 1e3:.4g} ms)."
    return {**row, "blocked": blocked, "note": f"{row.get('note') or ''} {note}".strip()}
