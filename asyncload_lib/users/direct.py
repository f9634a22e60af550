"""Which requests go straight over `http11`, instead of through the client library, and the connections they use."""

import asyncio
import os
import re
from collections.abc import Coroutine
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pyreqwest.http import Url

from asyncload_lib.units import CARRYING_HEADERS
from asyncload_lib.users.answer import CODINGS, Answer
from asyncload_lib.users.http11 import Connection, Idle, KeepAlive
from asyncload_lib.users.transport import ConnectionFailedError, ConnectTimeoutError

if TYPE_CHECKING:
    from asyncload_lib.users.exchange import Order

__all__ = ["DirectClient", "DirectRequest", "forget_servers"]

_ELSEWHERE = frozenset(CARRYING_HEADERS)
"""A request with one of these headers goes through the library."""
_ACCEPTED = CODINGS | {"", "identity"}
"""What a caller's `accept-encoding` may offer; with anything else the answer may come in a coding of the library's."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DEFAULTS = {"accept": "*/*", "user-agent": "asyncload", "accept-encoding": "gzip"}


class _Place(NamedTuple):
    origin: tuple[str, int]
    target: str
    authority: str


@lru_cache(maxsize=4096)
def _place(url: str) -> _Place | None:
    """Return where a plain `http://` URL leads; None for any other. Raises ValueError for what is no URL."""
    parsed = Url(url)
    host = parsed.host_str
    if parsed.scheme != "http" or not host or parsed.username or parsed.password:
        return None
    target = parsed.path if parsed.query_string is None else f"{parsed.path}?{parsed.query_string}"
    authority = host if parsed.port is None else f"{host}:{parsed.port}"
    return _Place((host.strip("[]"), parsed.port or 80), target, authority)


@lru_cache(maxsize=4096)
def _head(method: str, place: _Place) -> str:
    defaults = "".join(f"{name}: {value}\r\n" for name, value in _DEFAULTS.items())
    return f"{method} {place.target} HTTP/1.1\r\nhost: {place.authority}\r\n{defaults}"


class DirectRequest:
    """A request as bytes, and where it goes."""

    __slots__ = ("_bodiless", "_client", "_data", "_place", "_timeout_s")

    def __init__(self, client: "DirectClient", place: _Place, data: bytes, timeout_s: float, *, bodiless: bool) -> None:
        self._client = client
        self._place = place
        self._data = data
        self._timeout_s = timeout_s
        self._bodiless = bodiless

    def send(self, stream: bool) -> Coroutine[Any, Any, Answer]:
        """Send it, when awaited, on a connection that is free, or a new one; raises TransportError."""
        deadline_s = self._client.loop.time() + self._timeout_s
        idle = self._client.idle[self._place.origin]
        connection = idle.take()
        if connection is not None:
            return connection.exchange(self._data, deadline_s, self._bodiless, stream)
        return self._connect_and_send(idle, deadline_s, stream)

    async def _connect_and_send(self, idle: Idle, deadline_s: float, stream: bool) -> Answer:
        connection = await self._client.connect(self._place, idle, self._timeout_s)
        return await connection.exchange(self._data, deadline_s, self._bodiless, stream)


@lru_cache(maxsize=1024)
def _keep_alive(origin: tuple[str, int]) -> KeepAlive:
    """Return what this process knows of a server's connections: all users share what one has learned."""
    return KeepAlive()


def forget_servers() -> None:
    """Know nothing of any server any more: before another run it may have been started anew, with other limits."""
    _keep_alive.cache_clear()


class _Idles(dict[tuple[str, int], Idle]):
    is_over = False

    def __missing__(self, origin: tuple[str, int]) -> Idle:
        idle = self[origin] = Idle(_keep_alive(origin), is_over=self.is_over)
        return idle


class DirectClient:
    """The connections of one user, for use on `loop` alone; `timeout_s` is for a whole request.

    No two users share a connection, as no two people do. If they did, those that wait for a slow worker would leave the
    connections to the quick ones to the others, and few requests would meet a worker that is blocked.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float, connect_timeout_s: float) -> None:
        self.loop = loop
        self.idle = _Idles()
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s

    def prepare(self, order: "Order", cookies: str | None) -> DirectRequest | None:
        """Return the request; None if the library must carry it. Raises ValueError for what is no URL."""
        if order.auth is not None or (place := _place(order.url)) is None:
            return None
        text = _head(order.method, place) if order.headers is None else _own_head(order, place)
        if text is None:
            return None
        if cookies is not None:
            text = f"{text}cookie: {cookies}\r\n"
        if order.body is not None:
            if order.content_type is not None:
                text = f"{text}content-type: {order.content_type}\r\n"
            data = f"{text}content-length: {len(order.body)}\r\n\r\n".encode() + order.body
        elif order.method in ("POST", "PUT", "PATCH"):
            data = f"{text}content-length: 0\r\n\r\n".encode()
        else:
            data = f"{text}\r\n".encode()
        timeout_s = self._timeout_s if order.timeout_s is None else order.timeout_s
        return DirectRequest(self, place, data, timeout_s, bodiless=order.method == "HEAD")

    async def connect(self, place: _Place, idle: Idle, timeout_s: float) -> Connection:
        """Open a connection that will rest in `idle`."""
        try:
            async with asyncio.timeout(min(self._connect_timeout_s, timeout_s)):
                _, connection = await self.loop.create_connection(lambda: Connection(idle), *place.origin)
        except TimeoutError:
            raise ConnectTimeoutError("no connection in time") from None
        except OSError as error:
            raise ConnectionFailedError(_reason(error)) from error
        return connection

    def close(self) -> None:
        """Close every connection that rests; one that is still in use closes when its answer is there."""
        self.idle.is_over = True
        for idle in self.idle.values():
            idle.close()


def _own_head(order: "Order", place: _Place) -> str | None:
    """Return the head with the caller's headers before the defaults; None if the library must carry the request."""
    assert order.headers is not None
    given = {name.lower() for name in order.headers}
    if given & _ELSEWHERE:
        return None
    lines = [f"{order.method} {place.target} HTTP/1.1\r\nhost: {place.authority}\r\n"]
    for name, value in order.headers.items():
        if not _NAME.fullmatch(name) or _FORBIDDEN.search(value) or not value.isascii():
            return None  # the library says what is wrong with it
        if name.lower() == "accept-encoding" and not _codings(value) <= _ACCEPTED:
            return None
        lines.append(f"{name}: {value}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in _DEFAULTS.items() if name not in given]
    return "".join(lines)


def _codings(accepted: str) -> set[str]:
    """Return what an `accept-encoding` names, whatever weights it has."""
    return {coding.partition(";")[0].strip().lower() for coding in accepted.split(",")}


def _reason(error: OSError) -> str:
    """Return the system's words, without the address."""
    if error.errno and error.errno > 0:
        return f"{os.strerror(error.errno)} (os error {error.errno})"
    return f"failed to lookup address information: {error.args[-1] if error.args else error}"
