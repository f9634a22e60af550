"""HTTP for async users: Locust's client conventions on an asyncio client that keeps up with the loop."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from locust.exception import StopTest
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.cookie import CookieStore
from pyreqwest.http import Url
from pyreqwest.request import ConsumedRequest, StreamRequest
from pyreqwest.response import Response as RawResponse

from asyncload_lib.eventloop.thread import LoopThread
from asyncload_lib.redaction import redact
from asyncload_lib.users.answer import Answer
from asyncload_lib.users.base import AsyncUser
from asyncload_lib.users.body import Pairs, encoded, pairs_of
from asyncload_lib.users.direct import DirectClient, DirectRequest
from asyncload_lib.users.exchange import Exchange, Order
from asyncload_lib.users.measure import Measurement

__all__ = ["AsyncHttpClient", "AsyncHttpUser", "shared_client"]

LIBRARY_IDLE_S = 4.0
"""How long a connection of the library may rest. Servers close theirs after 5 s or more, which it cannot learn."""


def shared_client(thread: LoopThread, timeout_s: float, *, keeps_connections: bool = True) -> Client:
    """Return the process's client with this timeout, made on first use and closed with the loop.

    All users share its connections. With `keeps_connections` false each request gets a new one.
    """
    key = (Client, timeout_s, keeps_connections)
    client: Client | None = thread.resources.get(key)
    if client is None:
        client = library_client(timeout_s, timeout_s, insecure=True, keeps_connections=keeps_connections)
        thread.resources[key] = client
    return client


def library_client(
    network_timeout_s: float, connection_timeout_s: float, *, insecure: bool, keeps_connections: bool = True
) -> Client:
    """Return a new client of the library; one that checks certificates takes 5 ms to make."""
    builder = ClientBuilder()
    if not keeps_connections:
        builder = builder.pool_max_idle_per_host(0)
    return (
        builder.timeout(timedelta(seconds=network_timeout_s))
        .connect_timeout(timedelta(seconds=connection_timeout_s))
        .pool_idle_timeout(timedelta(seconds=LIBRARY_IDLE_S))
        .danger_accept_invalid_certs(insecure)
        .follow_redirects(False)
        .no_proxy()
        .user_agent("asyncload")
        .build()
    )


class AsyncHttpClient:
    """Requests relative to the user's host, each recorded through Locust's `request` event.

    Arguments follow Locust's HttpUser: `name` (default: path and query, secrets in it as `***`), `catch_response`,
    `context`, `stream`, `allow_redirects`; `params`, `json`, `data` (bytes, str or form), `headers`, `auth` (user,
    password), `timeout` (s, redirects included). `intended_ns` is the moment the request should have left.
    """

    def __init__(self, user: "AsyncHttpUser") -> None:
        self._user = user
        self.network_timeout = user.network_timeout
        self._base = (user.host or "").rstrip("/")
        self._direct = DirectClient(user.loop_thread.loop, user.network_timeout, user.connection_timeout)
        self._library = None if self._base.startswith("http://") else self._make_library()
        """The client for requests that do not go straight. Made here if all of them need it: that can take 5 ms."""
        self._base_path = urlsplit(self._base).path
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
        allow_redirects: bool = True,
        params: Pairs | None = None,
        json: Any = None,
        data: bytes | str | Pairs | None = None,
        headers: Mapping[str, str | None] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        intended_ns: int | None = None,
    ) -> Exchange:
        """Prepare a request; await it, or use it with `async with`.

        Raises ValueError or TypeError for what cannot be sent: a URL that is none, a body that JSON cannot hold.
        """
        method = method.upper()
        full_url = url if url.startswith(("http://", "https://")) else self._base + url
        if params:
            full_url = str(Url.parse_with_params(full_url, pairs_of(params)))
        if name is None:
            name = self._base_path + url if full_url.endswith(url) and url.startswith("/") else _path_of(full_url)
            name = redact(name) if "?" in name else name
        own = {key: value for key, value in headers.items() if value is not None} if headers else None
        body, content_type = encoded(data, json)
        if own and "content-type" in map(str.lower, own):
            content_type = None
        order = Order(method, full_url, own, body, content_type, timeout, auth, allow_redirects)
        measurement = Measurement(self._user, method, name, context, intended_ns)
        return Exchange(self, order, measurement, catch=catch_response, stream=stream)

    def get(self, url: str, **kwargs: Any) -> Exchange:
        return self.request("GET", url, **kwargs)

    def post(self, url: str, data: Any = None, json: Any = None, **kwargs: Any) -> Exchange:
        return self.request("POST", url, data=data, json=json, **kwargs)

    def put(self, url: str, data: Any = None, **kwargs: Any) -> Exchange:
        return self.request("PUT", url, data=data, **kwargs)

    def patch(self, url: str, data: Any = None, **kwargs: Any) -> Exchange:
        return self.request("PATCH", url, data=data, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> Exchange:
        return self.request("DELETE", url, **kwargs)

    def head(self, url: str, **kwargs: Any) -> Exchange:
        return self.request("HEAD", url, **{"allow_redirects": False, **kwargs})

    def options(self, url: str, **kwargs: Any) -> Exchange:
        return self.request("OPTIONS", url, **kwargs)

    def close(self) -> None:
        """Close the connections that rest; on the loop."""
        self._direct.close()
        self._library = None  # it closes its connections when nobody refers to it

    def forgotten(self, measurement: Measurement) -> None:
        """Report a request that nobody has awaited: it was never sent, so there was less load than it seemed."""
        if self._user.cut_offs:
            return
        request = f"{measurement.request_type} {measurement.name}"
        self._user.report_error(RuntimeError(f"{request} was made and never awaited: nothing was sent"))

    def _make_library(self) -> Client:
        user = self._user
        return library_client(user.network_timeout, user.connection_timeout, insecure=user.insecure)

    # -- for an exchange -----------------------------------------------------------------------------------------

    def prepare(self, order: Order, stream: bool) -> DirectRequest | ConsumedRequest | StreamRequest:
        """Return the request, with this user's cookies; raises ValueError for what cannot be sent."""
        cookies = None
        if self._cookies is not None and not (order.headers and "cookie" in map(str.lower, order.headers)):
            cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._cookies.matches(order.url)) or None
        if (request := self._direct.prepare(order, cookies)) is not None:
            return request
        if self._library is None:
            self._library = self._make_library()
        builder = order.apply(self._library.request(order.method, order.url))
        if cookies is not None:
            builder = builder.header("cookie", cookies)
        # By default the library holds back up to 64 KB, and the first token would seem to come late.
        return builder.streamed_read_buffer_limit(0).build_streamed() if stream else builder.build()

    def remember_cookies(self, raw: Answer | RawResponse, url: str) -> None:
        """Keep the cookies that an answer sets for this user's later requests; what is no cookie is left out."""
        try:
            cookies = raw.get_header_all("set-cookie")
        except ValueError:  # bytes that are no text
            return
        for cookie in cookies:
            if self._cookies is None:
                self._cookies = CookieStore()
            try:
                self._cookies.insert(cookie, url)
            except ValueError:
                continue


class AsyncHttpUser(AsyncUser):
    """An `AsyncUser` with an HTTP `client` (`AsyncHttpClient`); the counterpart of Locust's `HttpUser`.

    Cookies and connections are the user's own. Raises StopTest when no host is known.
    """

    abstract = True

    client: AsyncHttpClient
    network_timeout: float = 60.0
    """Seconds from the start of connecting to the last byte; none of a request's time is hidden by a retry."""
    connection_timeout: float = 60.0
    """Seconds to connect."""
    insecure: bool = True
    """Accept any certificate, as Locust's FastHttpUser does: a load test is about load."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        if not self.host:
            raise StopTest("no host: give one with --host, as `host` of the user class, or in the settings file")
        self.client = AsyncHttpClient(self)

    def _release(self) -> None:
        super()._release()
        self.client.close()


def _path_of(url: str) -> str:
    """Return path and query, by which Locust names a request."""
    parsed = Url(url)
    return parsed.path if parsed.query_string is None else f"{parsed.path}?{parsed.query_string}"
