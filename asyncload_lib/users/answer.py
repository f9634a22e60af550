"""The answer of an HTTP/1.1 server: its head as bytes, looked into when somebody asks (RFC 9112)."""

import re
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pyreqwest.http import HeaderMap

from asyncload_lib.users.transport import BadAnswerError, TransportError

if TYPE_CHECKING:
    from asyncload_lib.users.http11 import Connection

__all__ = ["CHUNKED", "CODINGS", "UNTIL_CLOSE", "Answer", "Head", "parse_head", "remembered"]

T = TypeVar("T")

_TIMEOUT = re.compile(r"timeout\s*=\s*(\d{1,6})", re.I)

CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""Values of `content-encoding` that are decoded here."""

UNTIL_CLOSE = -1
CHUNKED = -2
"""Values of `Head.body` for a body whose length the head does not tell."""


class Head(NamedTuple):
    """The first part of an answer: `lines` as it came, `lowered` to look for names in, and what they say.

    `body`: its length in bytes, CHUNKED or UNTIL_CLOSE (RFC 9112, section 6.3), unless the request was a HEAD.
    `keep_alive_s`: how long the server says that it keeps a connection; 0: it does not say.
    """

    lines: bytes
    lowered: bytes
    status: int
    body: int
    keep: bool
    compressed: bool
    sets_cookies: bool
    keep_alive_s: int = 0

    def values(self, name: str) -> list[str]:
        """Return every value of a header; `name` in lower case. Raises ValueError for bytes that are no text."""
        key, found = b"\r\n%b:" % name.encode(), []
        at = self.lowered.find(key)
        while at >= 0:
            begin = at + len(key)
            end = self.lowered.find(b"\r\n", begin)
            found.append(self.lines[begin : end if end >= 0 else None].strip().decode())
            at = self.lowered.find(key, begin)
        return found


def remembered(max_bytes: int, entries: int) -> Callable[[Callable[[bytes], T]], Callable[[bytes], T]]:
    """Cache a function of bytes for inputs of up to `max_bytes`: a server sends the same many times a second."""

    def decorate(read: Callable[[bytes], T]) -> Callable[[bytes], T]:
        known = lru_cache(maxsize=entries)(read)

        @wraps(read)
        def look(data: bytes) -> T:
            return known(data) if len(data) <= max_bytes else read(data)

        return look

    return decorate


@remembered(max_bytes=4096, entries=256)
def parse_head(lines: bytes) -> Head:
    """Read a status line and headers; raises BadAnswerError."""
    if not lines.startswith(b"HTTP/1.") or not lines[9:12].isdigit():
        raise BadAnswerError("invalid HTTP version parsed")
    lowered = lines.lower()
    bare = Head(lines, lowered, int(lines[9:12]), 0, False, False, b"\r\nset-cookie:" in lowered)
    options = ",".join(bare.values("connection")).lower()
    keep = "close" not in options and (lines[7:8] != b"0" or "keep-alive" in options)
    codings = [coding.strip() for coding in ",".join(bare.values("content-encoding")).lower().split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    kept = _TIMEOUT.search(",".join(bare.values("keep-alive")))
    return bare._replace(
        body=_body_of(bare),
        keep=keep,
        compressed=len(codings) == 1 and codings[0] in CODINGS,
        keep_alive_s=int(kept[1]) if kept else 0,
    )


def _body_of(head: Head) -> int:
    if head.status < 200 or head.status in (204, 304):
        return 0
    if codings := ",".join(head.values("transfer-encoding")).lower():
        return CHUNKED if codings.rpartition(",")[2].strip() == "chunked" else UNTIL_CLOSE
    lengths = {length.strip() for value in head.values("content-length") for length in value.split(",")}
    if not lengths:
        return UNTIL_CLOSE
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()):
        raise BadAnswerError("invalid content-length parsed")
    return int(length)


class Answer:
    """Status, headers and, once it is read, `content`; a stream is read by `read_chunk` until that returns None.

    `came_ns` (perf_counter_ns): when its newest bytes were read from the socket; of a stream, those that `read_chunk`
    returned last. A busy loop reads a socket some time before it wakes whoever waits for the answer.
    """

    __slots__ = ("_connection", "broken", "came_ns", "chunks", "content", "ended", "head", "status")

    def __init__(self, connection: "Connection", head: Head) -> None:
        self._connection = connection
        self.head = head
        self.status = head.status
        self.content = b""
        self.came_ns = 0
        self.chunks: list[bytes] = []
        self.ended = False
        self.broken: TransportError | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """Header names compare without regard to case; raises ValueError for bytes that are no text."""
        lines = (line.partition(b":") for line in self.head.lines.split(b"\r\n")[1:])
        return HeaderMap([(name.strip().decode(), value.strip().decode()) for name, _, value in lines])

    def get_header(self, name: str) -> str | None:
        """Return the first value of a header; `name` in lower case."""
        values = self.head.values(name)
        return values[0] if values else None

    def get_header_all(self, name: str) -> list[str]:
        """Return every value of a header; `name` in lower case. Raises ValueError for bytes that are no text."""
        return self.head.values(name)

    @property
    def body_reader(self) -> "Answer":
        return self

    def read_chunk(self) -> Coroutine[Any, Any, bytes | None]:
        """Return what has come of a stream, None at its end; raises TransportError where it breaks off."""
        return self._connection.read_chunk(self)

    async def __aexit__(self, *_: object) -> None:
        """Give the connection back, or close it if the stream has not ended."""
        if not self.ended:
            self._connection.close()
