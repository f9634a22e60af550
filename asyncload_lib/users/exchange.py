"""One HTTP request of a user, from its first byte to its outcome, redirects included."""

import asyncio
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from locust.exception import CatchResponseError, LocustError, ResponseError
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.http import Url
from pyreqwest.request import ConsumedRequest, RequestBuilder, StreamRequest
from pyreqwest.response import Response as RawResponse

from asyncload_lib.users.answer import Answer
from asyncload_lib.users.direct import DirectRequest
from asyncload_lib.users.measure import CONTROL_FLOW, Measurement
from asyncload_lib.users.response import HttpStatusError, Response
from asyncload_lib.users.transport import Cancellations, TransportError, transport_error

if TYPE_CHECKING:
    from asyncload_lib.users.http import AsyncHttpClient

__all__ = ["Exchange", "Order"]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 30
"""As in requests, and so in Locust's HttpUser."""

SWALLOWED = (CatchResponseError, ResponseError, TransportError)
"""Exceptions of a block that say only that the request failed: they are recorded and not raised again."""


class TooManyRedirectsError(TransportError):
    """The server redirected more often than a client will follow."""


class ForeignRedirectError(TransportError):
    """The server redirected to another server; nothing is ever sent to an address that nobody has configured."""


@dataclass(slots=True)
class Order:
    """What is to be sent; `content_type` is that of the body, where the caller's headers do not say it."""

    method: str
    url: str
    headers: dict[str, str] | None
    body: bytes | None
    content_type: str | None
    timeout_s: float | None
    auth: tuple[str, str] | None
    follow: bool

    def apply(self, builder: RequestBuilder) -> RequestBuilder:
        """Return `builder` with everything but method and URL."""
        if self.body is not None:
            builder = builder.body_bytes(self.body)
            if self.content_type is not None:
                builder = builder.header("content-type", self.content_type)
        for name, value in (self.headers or {}).items():
            try:
                builder = builder.header(name, value)
            except ValueError:  # not passed on: its text contains the value, which may be a secret
                told = f"the header {name!r} is not allowed: a name is letters, digits and -, a value one line of text"
                raise ValueError(told) from None
        if self.timeout_s is not None:
            builder = builder.timeout(timedelta(seconds=self.timeout_s))
        if self.auth is not None:
            builder = builder.basic_auth(*self.auth)
        return builder

    def redirected(self, status: int, location: str) -> "Order":
        """Return what requests would send after this answer (RFC 9110, section 15.4, leaves the choice)."""
        here = Url(self.url)
        there = here.join(location)
        order = self
        if (status in (302, 303) and self.method != "HEAD") or (status == 301 and self.method == "POST"):
            order = replace(order, method="GET", body=None)
        if not _keeps_credentials(here, there):
            secret = ("authorization", "cookie")
            headers = {name: text for name, text in (self.headers or {}).items() if name.lower() not in secret}
            order = replace(order, headers=headers, auth=None)
        elif not (there.username or there.password):
            there = there.with_username(here.username).with_password(here.password)
        return replace(order, url=str(there))


class Exchange:
    """One request: awaited it yields the response; as `async with` the block decides about success and failure."""

    __slots__ = ("_catch", "_client", "_is_used", "_measurement", "_order", "_response", "_stream", "_streamed")

    def __init__(
        self, client: "AsyncHttpClient", order: Order, measurement: Measurement, *, catch: bool, stream: bool
    ) -> None:
        self._is_used = False
        self._client = client
        self._order = order
        self._measurement = measurement
        self._catch = catch
        self._stream = stream
        self._streamed: Any = None
        self._response = Response(measurement, order.url)
        measurement.response = self._response
        measurement.url = order.url

    def __del__(self) -> None:
        if not self._is_used:
            self._client.forgotten(self._measurement)

    def __await__(self) -> Generator[Any, None, Response]:
        return self._run().__await__()

    async def _run(self) -> Response:
        self._use()
        if self._stream:
            raise TypeError("a streamed request needs `async with`, which says where the stream ends")
        await self._send()
        self._finish(self._response.ended_ns)
        return self._response

    async def __aenter__(self) -> Response:
        self._use()
        if not (self._catch or self._stream):
            raise LocustError("`async with` needs catch_response=True, to decide about the request; else just await it")
        await self._send()
        self._response.open = True
        return self._response

    def _use(self) -> None:
        if self._is_used:
            raise RuntimeError("a request is sent only once: make another one with client.get(), client.post(), ...")
        self._is_used = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._response.open = False
        # The time the block spends on the answer is not the request's. A cancelled block may still have been reading.
        is_cancelled = isinstance(error, asyncio.CancelledError)
        try:
            return self._judge(time.perf_counter_ns() if is_cancelled else self._response.ended_ns, error)
        finally:
            await self._close_stream()

    # -- there and back ------------------------------------------------------------------------------------------

    async def _send(self) -> None:
        measurement, response = self._measurement, self._response
        # Before `begin`: a mistake in the call is no request that failed.
        request = self._client.prepare(self._order, self._stream)
        measurement.begin()
        try:
            raw = await self._once(request, self._order.url)
            if raw.status in REDIRECTS:
                raw = await self._follow(raw)
            if not self._stream:
                response.content = content = raw.content if isinstance(raw, Answer) else await _body(raw)
                measurement.response_length = len(content)
        except (TransportError, PyreqwestError, OSError, ValueError) as error:
            response.ended_ns = time.perf_counter_ns()
            await self._close_stream()
            response.error = transport_error(error) if isinstance(error, PyreqwestError) else error
            measurement.exception = response.error
            return
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                measurement.cut_off(time.perf_counter_ns())
            else:
                measurement.abandon()
            await self._close_stream()
            raise
        response.ended_ns = raw.came_ns if isinstance(raw, Answer) else time.perf_counter_ns()
        response.raw = raw
        response.status_code = raw.status

    async def _once(self, request: DirectRequest | ConsumedRequest | StreamRequest, url: str) -> Answer | RawResponse:
        if isinstance(request, DirectRequest):
            answer = await request.send(self._stream)
            if self._stream:
                self._streamed = answer
            if answer.head.sets_cookies:
                self._client.remember_cookies(answer, url)
            return answer
        cancellations = Cancellations()
        if isinstance(request, StreamRequest):
            raw = await request.__aenter__()
            self._streamed = request
        else:
            raw = await request.send()
        cancellations.check()
        self._client.remember_cookies(raw, url)
        return raw

    async def _follow(self, raw: Answer | RawResponse) -> Answer | RawResponse:
        """Follow redirects here: the library would lose the cookies that each of them sets."""
        order, hops = self._order, 0
        limit_s = self._client.network_timeout if order.timeout_s is None else order.timeout_s
        while order.follow and raw.status in REDIRECTS and (location := raw.get_header("location")):
            hops += 1
            if hops > MAX_REDIRECTS:
                raise TooManyRedirectsError(f"more than {MAX_REDIRECTS} redirects")
            await self._close_stream()
            order = order.redirected(raw.status, location)
            if not _is_same_server(Url(self._order.url), there := Url(order.url)):
                raise ForeignRedirectError(f"redirected to {there.origin_ascii}, where nothing may be sent")
            spent_s = (time.perf_counter_ns() - self._measurement.started_ns) / 1e9
            order.timeout_s = max(limit_s - spent_s, 0.001)
            raw = await self._once(self._client.prepare(order, self._stream), order.url)
            self._response.url = order.url
        return raw

    async def _close_stream(self) -> None:
        streamed, self._streamed = self._streamed, None
        if streamed is not None:
            await streamed.__aexit__(None, None, None)

    # -- the outcome ---------------------------------------------------------------------------------------------

    def _finish(self, ended_ns: int) -> None:
        response, measurement = self._response, self._measurement
        if response.verdict is None and response.error is None and response.status_code >= 400:
            measurement.exception = HttpStatusError(f"HTTP {response.status_code}")
        measurement.finish(ended_ns)

    def _judge(self, ended_ns: int, error: BaseException | None) -> bool:
        """Report the outcome; True if the block's exception is not to be raised again, for it says only that.

        As in Locust, an explicit verdict stands. In Locust a block that raises anything but its own ResponseError
        leaves no trace of its request; here the request is recorded as failed. The reason that is kept is what went
        wrong first: no answer, then a status of 400 or above, and only then the block's exception.
        """
        response, measurement = self._response, self._measurement
        if error is None or response.verdict is not None or isinstance(error, CONTROL_FLOW):
            self._finish(ended_ns)
        elif isinstance(error, asyncio.CancelledError):
            measurement.cut_off(ended_ns)
        elif not isinstance(error, Exception):
            measurement.abandon()
        elif isinstance(error, SWALLOWED):
            measurement.exception = error
            measurement.finish(ended_ns)
            return True
        else:
            if response.error is None:
                measurement.exception = error
            self._finish(ended_ns)
        return False


def _is_same_server(here: Url, there: Url) -> bool:
    """Tell whether two URLs lead to the same host and port; from port 80 to 443 is the same service, secured."""
    ports = {here.port_or_known_default, there.port_or_known_default}
    return here.host_str == there.host_str and (len(ports) == 1 or ports == {80, 443})


def _keeps_credentials(here: Url, there: Url) -> bool:
    """Tell whether credentials for the one are for the other as well, by the rule of requests."""
    secured = f"https://{here.host_str}" if here.scheme == "http" and here.port is None else ""
    return there.origin_ascii in (here.origin_ascii, secured)


async def _body(raw: RawResponse) -> bytes:
    cancellations = Cancellations()
    body = bytes(await raw.bytes())
    cancellations.check()
    return body
