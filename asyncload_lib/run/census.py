"""Whether the target has workers that the reading of its probe leaves out, as those of another replica."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from asyncload_lib.eventloop.probe_answer import Confirmation, answer_of, strangers

__all__ = ["ASK_TIMEOUT_S", "LIMIT_S", "Census"]

ASK_TIMEOUT_S = 2.0
LEAST = 8
"""Times that are asked at least, however short the measurement: of two replicas that a balancer chooses between by
chance, one stays unseen once in 256 times."""
LIMIT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
"""To ask costs each worker about 1 ms. Under load connections come to other workers than while all are idle."""
LARGE_BYTES = 64 << 10
"""Findings of this size take the target's loop some milliseconds to write: they are asked for only where a report, or a
master's checkpoint, needs them."""

Fetch = Callable[[], Awaitable[tuple[int, bytes] | None]]


class Census:
    """Asks the probe over and over, each time on a new connection, from now on until `stop()`; on the loop.

    A balancer may lead each connection to another replica; the one that carried the reset and carries the reading ends
    at one of them. `fetch` asks once, on a connection of its own, and gives status and body, or None without an answer.
    `confirmation`: of the reset with which the measurement began.
    """

    def __init__(self, fetch: Fetch, confirmation: Confirmation) -> None:
        self._fetch = fetch
        self._confirmation = confirmation
        self._others: dict[int | None, str] = {}
        self._asked = 0
        self._is_large = self._is_over = False
        self._task = asyncio.create_task(self._ask_on(), name="census")

    def stop(self) -> None:
        """Ask no more."""
        self._is_over = True  # as well: the client may let go of a cancellation
        self._task.cancel()

    async def complete(self) -> dict[int | None, str]:
        """Ask once more, and what is still missing; return whom the measurement leaves out, by process, and why.

        None stands for a server that has no such probe. Takes at most `LIMIT_S` and an answer's timeout.
        """
        deadline_s = time.monotonic() + LIMIT_S
        for _ in range(max(LEAST - self._asked, 1)):
            if not self._is_over and time.monotonic() < deadline_s:
                await self._ask()
        return dict(self._others)

    async def _ask_on(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not (self._is_over or self._is_large):
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            await self._ask()

    async def _ask(self) -> None:
        self._asked += 1
        asked_s = time.perf_counter()
        found = await self._fetch()
        if found is None:
            return
        status, body = found
        self._is_large = len(body) > LARGE_BYTES
        answer = answer_of(body, reset=False) if status == 200 else None
        if answer is not None:
            self._others.update(strangers(answer, self._confirmation, asked_s, time.perf_counter()))
        elif status < 500 and status not in (408, 429):  # else a proxy that is overloaded
            what = "an answer that is not a probe's" if status == 200 else f"HTTP {status}"
            self._others[None] = f"it gave {what} for the probe's path (is there a load balancer?)"
