"""What a user sees of an answer, with Locust's own words for it."""

import asyncio
import json as json_module
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from locust.exception import LocustError
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.response import Response as RawResponse

from asyncload_lib.users.answer import Answer
from asyncload_lib.users.measure import Measurement
from asyncload_lib.users.transport import Cancellations, TransportError, transport_error

__all__ = ["HttpStatusError", "Response"]


class HttpStatusError(Exception):
    """The server answered with a status of 400 or above."""


class Response:
    """An answer whose body has been read (or, with `stream=True`, is still to be read by `iter_bytes`).

    `status_code` is 0 and `error` set when no answer came; such a request is recorded as failed and nothing is raised,
    as in Locust. `ok` is true below 400. `url` is the one that answered, after redirects.
    """

    __slots__ = ("_measurement", "content", "ended_ns", "error", "open", "raw", "status_code", "url", "verdict")

    def __init__(self, measurement: Measurement, url: str) -> None:
        self._measurement = measurement
        self.raw: Answer | RawResponse | None = None
        self.verdict: bool | None = None
        """What the block decided by `success()` or `failure()`; None: nothing yet."""
        self.open = False
        """Whether the block that decides is running."""
        self.url = url
        self.content = b""
        self.status_code = 0
        self.error: BaseException | None = None
        self.ended_ns = 0
        """When the newest part of the answer came, or it became clear that none would (perf_counter_ns)."""

    @property
    def ok(self) -> bool:
        return 0 < self.status_code < 400

    @property
    def headers(self) -> Mapping[str, str]:
        """Header names compare without regard to case; empty when no answer came."""
        return {} if self.raw is None else self.raw.headers

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body as JSON; raises ValueError when it is none."""
        return json_module.loads(self.content)

    def raise_for_status(self) -> None:
        """Raise what made the request fail, if anything did: no answer, or a status of 400 or above."""
        if self.error is not None:
            raise self.error
        if not self.ok:
            raise HttpStatusError(f"HTTP {self.status_code}")

    def failure(self, exception: BaseException | str) -> None:
        """Record the request as failed; raises LocustError outside a block that decides."""
        self._require_block()
        self.verdict = False
        self._measurement.failure(exception)

    def success(self) -> None:
        """Record the request as successful whatever its status; raises LocustError outside a block that decides."""
        self._require_block()
        self.verdict = True
        self._measurement.exception = None

    def _require_block(self) -> None:
        if not self.open:
            raise LocustError(
                "success() and failure() work only inside `async with self.client.get(..., catch_response=True) as "
                "response:`; here the request is already recorded"
            )

    def metric(self, metric: str, values_us: list[float]) -> None:
        """Keep figures about this request (microseconds) in histograms of their own."""
        self._measurement.metric(metric, values_us)

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body of a streamed answer as it arrives, without waiting for a buffer to fill.

        Raises TransportError when it breaks off.
        """
        raw, measurement = self.raw, self._measurement
        if raw is None:
            return
        cancellations = None if isinstance(raw, Answer) else Cancellations()
        read_chunk = raw.body_reader.read_chunk
        try:
            while (chunk := await read_chunk()) is not None:
                self.ended_ns = raw.came_ns if isinstance(raw, Answer) else time.perf_counter_ns()
                if cancellations is not None:
                    cancellations.check()
                measurement.response_length += len(chunk)
                yield bytes(chunk)
        except PyreqwestError as error:
            self.ended_ns = time.perf_counter_ns()
            raise transport_error(error) from error
        except (TransportError, asyncio.CancelledError):
            self.ended_ns = time.perf_counter_ns()
            raise
