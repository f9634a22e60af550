"""The target's event loop during a scenario, by two witnesses: the probe inside it, and requests from outside."""

import json
import logging
from typing import Any

from pyreqwest.exceptions import PyreqwestError

from asyncload_lib.eventloop.asgi import TOKEN_HEADER
from asyncload_lib.eventloop.lag import LoopMonitor
from asyncload_lib.eventloop.thread import LoopThread
from asyncload_lib.eventloop.witness import OutsideWitness, disagreement
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users.http import shared_client

__all__ = ["TargetObserver"]

logger = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 10.0

Json = dict[str, Any]


class TargetObserver:
    """Watches one target from `start()` to `stop()`; on the node that directs the run. For the hub's thread.

    A target without a host is not watched; one without a probe, or with a token that is not known, only from outside.
    """

    def __init__(self, thread: LoopThread, target: Target, settings: Settings) -> None:
        self._thread = thread
        self._host = target.host
        self._token = target.probe_token
        self._probe_url = f"{target.host}{settings.loop.probe_path}"
        self._limit_s, self._period_s = settings.loop.limit, settings.loop.period
        self._monitor = LoopMonitor("observer", settings.loop.limit, settings.loop.period)
        self._witness: OutsideWitness | None = None
        if target.host:
            self._witness = OutsideWitness(
                f"{target.host}{settings.loop.witness_path}",
                rate=settings.loop.witness_rate,
                limit_s=settings.loop.limit,
                monitor=self._monitor,
            )
        self._running = False
        self._problem = ""

    def start(self) -> None:
        """Begin to watch from outside."""
        if self._witness is not None and not self._running:
            self._running = True
            self._thread.call(self._start())

    async def _start(self) -> None:
        assert self._witness is not None
        self._monitor.start()
        self._witness.start()

    def reset(self) -> None:
        """Have both witnesses begin anew."""
        if self._running:
            self._thread.call(self._reset())

    async def _reset(self) -> None:
        assert self._witness is not None
        self._monitor.reset()
        self._witness.reset()
        if self._token:
            limits = f"limit_s={self._limit_s}&period_s={self._period_s}"
            await self._ask("POST", f"{self._probe_url}/reset?{limits}")

    def report(self) -> list[Json]:
        """Return what was seen since the last reset: one row per worker of the target, then the one from outside."""
        if not self._running:
            return []
        rows: list[Json] = self._thread.call(self._report())
        return rows

    async def _report(self) -> list[Json]:
        assert self._witness is not None
        outside = {**self._witness.report(), "process": self._host}
        answer = await self._ask("GET", self._probe_url) if self._token else None
        if answer is None:
            why = self._problem or "no probe token is known (loop.probe_token)"
            outside["note"] = f"{outside['note']} The loop was not watched from inside: {why}."
            return [outside]
        inside = [_held_to(self._limit_s, _inside(worker, answer)) for worker in answer["workers"]]
        sentences = filter(None, (disagreement(row, outside) for row in inside))
        outside["note"] = " ".join([outside["note"], *sentences])
        return [*inside, outside]

    async def _ask(self, method: str, url: str) -> Json | None:
        client = shared_client(self._thread, PROBE_TIMEOUT_S, PROBE_TIMEOUT_S, insecure=True)
        try:
            answer = await client.request(method, url).header(TOKEN_HEADER, self._token or "").build().send()
            body = bytes(await answer.bytes())
            if answer.status != 200:
                self._problem = f"{url} answered {answer.status}"
                return None
            found = json.loads(body)
        except (PyreqwestError, ValueError, OSError) as error:
            self._problem = f"{url}: {type(error).__name__}"
            return None
        return found if isinstance(found, dict) else None

    def stop(self) -> None:
        """Stop watching."""
        if self._running:
            self._running = False
            self._thread.call(self._stop())

    async def _stop(self) -> None:
        assert self._witness is not None
        await self._witness.stop()
        self._monitor.stop()


def _inside(worker: Json, answer: Json) -> Json:
    row = {key: value for key, value in worker.items() if key not in ("pid", "worker")}
    several = len(answer["workers"]) > 1
    row["process"] = f"worker {worker['worker']}, pid {worker['pid']}" if several else f"pid {worker['pid']}"
    if answer.get("problem"):
        row["note"] = f"{row.get('note') or ''} {answer['problem']}".strip()
    return row


def _held_to(limit_s: float, row: Json) -> Json:
    """Judge a worker that watched under a limit of its own, such as one that came up after the reset, by the run's."""
    own_s = row["limit_s"]
    if own_s == limit_s:
        return row
    blocked = row["blocked"]
    if blocked and own_s < limit_s:
        blocked = row["max_stall"] >= limit_s
    elif blocked is False and own_s > limit_s:
        blocked = None
    note = f"It watched under a limit of {own_s * 1e3:.4g} ms, not under loop.limit ({limit_s * 1e3:.4g} ms)."
    return {**row, "blocked": blocked, "note": f"{row.get('note') or ''} {note}".strip()}
