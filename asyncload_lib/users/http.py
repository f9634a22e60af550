"""HTTP for async users: Locust's client conventions on an asyncio client that keeps up with the loop."""

import json as json_module
import time
from collections.abc import AsyncIterator, Generator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any

from locust.exception import CatchResponseError, StopTest
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.cookie import CookieStore
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response as RawResponse

from asyncload_lib.eventloop.thread import LoopThread
from asyncload_lib.users.base import AsyncUser
from asyncload_lib.users.measure import CONTROL_FLOW, Measurement

__all__ = ["AsyncHttpClient", "AsyncHttpUser", "HttpStatusError", "Response", "shared_client"]


class HttpStatusError(Exception):
    """The server answered with a status of 400 or above."""


class Response:
    """An answer whose body has been read (or, with `stream=True`, is still to be read by `iter_bytes`).

    `status_code` is 0 and `error` set when no answer came; such a request is recorded as failed and nothing is raised,
    as in Locust. `ok` is true below 400.
    """

    __slots__ = ("_measurement", "_raw", "_verdict", "content", "error", "status_code", "url")

    def __init__(self, measurement: Measurement, url: str) -> None:
        self._measurement = measurement
        self._raw: RawResponse | None = None
        self._verdict: bool | None = None
        self.url = url
        self.content = b""
        self.status_code = 0
        self.error: BaseException | None = None

    @property
    def ok(self) -> bool:
        return 0 < self.status_code < 400

    @property
    def headers(self) -> Mapping[str, str]:
        """Header names compare without regard to case; empty when no answer came."""
        return {} if self._raw is None else self._raw.headers

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
            raise HttpStatusError(f"{self.status_code} from {self.url}")

    def failure(self, exception: BaseException | str) -> None:
        """Record the request as failed; in a `catch_response=True` block."""
        self._verdict = False
        self._measurement.failure(exception)

    def success(self) -> None:
        """Record the request as successful whatever its status; in a `catch_response=True` block."""
        self._verdict = True
        self._measurement.exception = None

    def metric(self, metric: str, values_us: list[float]) -> None:
        """Keep figures about this request (microseconds) in histograms of their own."""
        self._measurement.metric(metric, values_us)

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body of a streamed answer as it arrives, without waiting for a buffer to fill."""
        if self._raw is None:
            return
        reader = self._raw.body_reader
        while (chunk := await reader.read_chunk()) is not None:
            self._measurement.response_length += len(chunk)
            yield bytes(chunk)


class _Exchange:
    """One request: awaited it yields the response; as `async with` the block decides about success and failure."""

    __slots__ = ("_builder", "_catch", "_client", "_measurement", "_response", "_stream", "_streamed")

    def __init__(
        self, client: "AsyncHttpClient", builder: RequestBuilder, measurement: Measurement, url: str, *, catch: bool,
        stream: bool,
    ) -> None:  # fmt: skip
        self._client = client
        self._builder = builder
        self._measurement = measurement
        self._catch = catch
        self._stream = stream
        self._streamed: Any = None
        self._response = Response(measurement, url)

    def __await__(self) -> Generator[Any, None, Response]:
        return self._run().__await__()

    async def _run(self) -> Response:
        if self._stream:
            raise TypeError("a streamed request needs `async with`, which says where the stream ends")
        await self._send()
        self._finish(time.perf_counter_ns())
        return self._response

    async def _send(self) -> None:
        measurement, response = self._measurement, self._response
        measurement.begin()
        try:
            if self._stream:
                # Without it up to 64 KB are held back and the first token reads late.
                self._streamed = self._builder.streamed_read_buffer_limit(0).build_streamed()
                raw = await self._streamed.__aenter__()
            else:
                raw = await self._builder.build().send()
                response.content = bytes(await raw.bytes())
                measurement.response_length = len(response.content)
        except (PyreqwestError, OSError) as error:
            self._streamed = None
            response.error = measurement.exception = error
            return
        except BaseException:
            self._streamed = None
            measurement.abandon()
            raise
        response._raw = raw
        response.status_code = raw.status
        measurement.response = response
        measurement.url = response.url
        self._client.remember_cookies(raw, response.url)

    def _finish(self, ended_ns: int) -> None:
        response, measurement = self._response, self._measurement
        if response._verdict is None and measurement.exception is None and response.status_code >= 400:
            measurement.exception = HttpStatusError(f"HTTP {response.status_code}")
        measurement.finish(ended_ns)

    async def __aenter__(self) -> Response:
        await self._send()
        if self._streamed is None and not self._catch:
            self._finish(time.perf_counter_ns())
        return self._response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        streamed, self._streamed = self._streamed, None
        if streamed is None and not self._catch:
            return False
        ended_ns = time.perf_counter_ns()
        try:
            return self._judge(ended_ns, error, cut_off=streamed is not None)
        finally:
            if streamed is not None:
                await streamed.__aexit__(kind, error, traceback)

    def _judge(self, ended_ns: int, error: BaseException | None, *, cut_off: bool) -> bool:
        """Report the outcome; True when the block's exception was the failure and goes no further.

        As in Locust: an explicit verdict stands, an exception of the block fails the request and is raised again
        unless it is a CatchResponseError or the transport's.
        """
        if error is None:
            self._finish(ended_ns)
            return False
        if not isinstance(error, Exception):
            # A stream cut off has no outcome; an answer that was read in full has one.
            if cut_off and self._response._verdict is None:
                self._measurement.abandon()
            else:
                self._finish(ended_ns)
            return False
        if self._response._verdict is None and not isinstance(error, CONTROL_FLOW):
            self._measurement.exception = error
        self._finish(ended_ns)
        return isinstance(error, (CatchResponseError, PyreqwestError))


def shared_client(
    thread: LoopThread, network_timeout_s: float, connection_timeout_s: float, *, insecure: bool
) -> Client:
    """Return the process's client with these options, made on first use and closed with the loop."""
    key = (network_timeout_s, connection_timeout_s, insecure)
    client: Client | None = thread.resources.get(key)
    if client is None:
        client = (
            ClientBuilder()
            .timeout(timedelta(seconds=network_timeout_s))
            .connect_timeout(timedelta(seconds=connection_timeout_s))
            .danger_accept_invalid_certs(insecure)
            .user_agent("asyncload")
            .build()
        )
        thread.resources[key] = client
    return client


class AsyncHttpClient:
    """Requests relative to the user's host, each recorded through Locust's `request` event.

    Arguments follow Locust: `name` (default: the path), `catch_response`, `context`, `stream`; `params`, `json`, `data`
    (bytes, str or form mapping), `headers`, `timeout` (s). `intended_ns` is the moment the request should have left.
    """

    def __init__(self, user: "AsyncHttpUser", client: Client) -> None:
        self._user = user
        self._raw = client
        self._base = (user.host or "").rstrip("/")
        self._cookies: CookieStore | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        name: str | None = None,
        catch_response: bool = False,
        context: dict[str, Any] | None = None,
        stream: bool = False,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        data: bytes | str | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        intended_ns: int | None = None,
    ) -> _Exchange:
        """Prepare a request; await it, or use it with `async with`. Raises ValueError for a URL that is none."""
        full_url = url if url.startswith(("http://", "https://")) else self._base + url
        builder = self._raw.request(method, full_url)
        if json is not None:
            builder = builder.body_json(json)
        elif isinstance(data, str):
            builder = builder.body_text(data)
        elif isinstance(data, Mapping):
            builder = builder.form(dict(data))
        elif data is not None:
            builder = builder.body_bytes(data)
        if headers:
            builder = builder.headers(dict(headers))
        if params:
            builder = builder.query(dict(params))
        if timeout is not None:
            builder = builder.timeout(timedelta(seconds=timeout))
        if self._cookies is not None:
            pairs = [f"{cookie.name}={cookie.value}" for cookie in self._cookies.matches(full_url)]
            if pairs:
                builder = builder.header("cookie", "; ".join(pairs))
        measurement = Measurement(self._user, method, name or url, context, intended_ns)
        return _Exchange(self, builder, measurement, full_url, catch=catch_response, stream=stream)

    def get(self, url: str, **kwargs: Any) -> _Exchange:
        return self.request("GET", url, **kwargs)

    def post(self, url: str, **kwargs: Any) -> _Exchange:
        return self.request("POST", url, **kwargs)

    def put(self, url: str, **kwargs: Any) -> _Exchange:
        return self.request("PUT", url, **kwargs)

    def patch(self, url: str, **kwargs: Any) -> _Exchange:
        return self.request("PATCH", url, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> _Exchange:
        return self.request("DELETE", url, **kwargs)

    def head(self, url: str, **kwargs: Any) -> _Exchange:
        return self.request("HEAD", url, **kwargs)

    def options(self, url: str, **kwargs: Any) -> _Exchange:
        return self.request("OPTIONS", url, **kwargs)

    def remember_cookies(self, raw: RawResponse, url: str) -> None:
        """Keep the cookies an answer sets for this user's later requests."""
        if raw.get_header("set-cookie") is None:
            return
        if self._cookies is None:
            self._cookies = CookieStore()
        for cookie in raw.get_header_all("set-cookie"):
            self._cookies.insert(cookie, url)


class AsyncHttpUser(AsyncUser):
    """An `AsyncUser` with an HTTP `client`; the counterpart of Locust's `HttpUser`.

    Cookies are the user's own; connections come from one pool per process, since a client of its own would cost each
    user 5 ms and 120 KB. Raises StopTest when no host is known.
    """

    abstract = True

    network_timeout: float = 60.0
    """Seconds from the start of connecting to the last byte; None of a request's time is hidden by a retry."""
    connection_timeout: float = 60.0
    """Seconds to connect."""
    insecure: bool = True
    """Accept any certificate, as Locust's FastHttpUser does: a load test is about load."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        if not self.host:
            raise StopTest("no host: give one with --host, as `host` of the user class, or in the settings file")
        raw = shared_client(self.loop_thread, self.network_timeout, self.connection_timeout, insecure=self.insecure)
        self.client = AsyncHttpClient(self, raw)
