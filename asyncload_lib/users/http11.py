"""One HTTP/1.1 connection straight on the loop, for plain `http://`: the hot path of a load generator.

A client library in its own thread costs 40 us of CPU a request, most of it for handing over between two threads that
want the GIL; this costs 12. It does what RFC 9112 asks of a client whose requests have a body in one piece. TLS,
proxies and whatever is rare go through the library (see `direct`).
"""

import asyncio
import sys
import time
import zlib
from typing import Any

from asyncload_lib.users.answer import CHUNKED, UNTIL_CLOSE, Answer, parse_head, remembered
from asyncload_lib.users.transport import (
    AnswerTimeoutError,
    BadAnswerError,
    BodyTimeoutError,
    ConnectionBrokenError,
    TransportError,
)

__all__ = ["Connection", "Idle", "KeepAlive"]

HEAD_MAX_BYTES = 1 << 18
UNREAD_MAX_BYTES = 1 << 20
"""Kept of a stream that is not read as fast as it comes; beyond that the server must wait."""
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
"""Has zlib tell the two apart by the first bytes."""


class KeepAlive:
    """How long a server keeps a connection that rests, as it says or as it was seen to do.

    A request that is sent while the server closes the connection fails, and nobody can tell whether it was received.
    So none is sent on a connection that has rested for nearly as long.

    A worker that is started anew closes its connections as well, after any rest. So what was seen is forgotten when a
    connection carries a request after a longer rest, and after a shorter one nothing is learned any more.
    """

    __slots__ = ("_is_told", "_kept_ns", "usable_ns")

    SHARE = 0.9
    """A connection is used for this share of the time that the server keeps it."""
    SHORTEST_NS = 900_000_000
    """Servers count in whole seconds; a connection that is closed sooner is closed for another reason."""

    def __init__(self) -> None:
        self.usable_ns = sys.maxsize
        self._is_told = False
        self._kept_ns = self.SHORTEST_NS

    def told(self, seconds: int) -> None:
        """Take the server's word (`Keep-Alive: timeout=5`)."""
        self.usable_ns, self._is_told = int(seconds * self.SHARE * 1e9), True

    def closed_after(self, rest_ns: int) -> None:
        """Learn from a connection that the server closed. The longest rest counts: a server that ends closes all."""
        if rest_ns > self._kept_ns and not self._is_told:
            known_ns = 0 if self.usable_ns == sys.maxsize else self.usable_ns
            self.usable_ns = max(known_ns, int(rest_ns * self.SHARE))

    def is_outlived(self, rest_ns: int) -> bool:
        """Whether a connection that is open after such a rest has been kept for longer than any that was closed."""
        return not self._is_told and int(rest_ns * self.SHARE) >= self.usable_ns

    def kept_for(self, rest_ns: int) -> None:
        """Learn from a connection that has outlived what was seen, and then carried a request."""
        self._kept_ns = max(self._kept_ns, rest_ns)
        if self.is_outlived(rest_ns):
            self.usable_ns = sys.maxsize


class Idle(list["Connection"]):
    """The connections of one user to one server that wait for the next request; `is_over`: none will come."""

    def __init__(self, keep_alive: KeepAlive | None = None, *, is_over: bool = False) -> None:
        super().__init__()
        self.keep_alive = keep_alive or KeepAlive()
        self.is_over = is_over

    def take(self) -> "Connection | None":
        """Return one that can carry a request, if there is one."""
        usable_ns = self.keep_alive.usable_ns
        while self:
            connection = self.pop()
            if connection.closed:
                continue
            if usable_ns == sys.maxsize or (rest_ns := time.perf_counter_ns() - connection.rests_since_ns) < usable_ns:
                return connection
            if self.keep_alive.is_outlived(rest_ns):
                connection.outlived_ns = rest_ns
                return connection
            connection.close()
        return None

    def close(self) -> None:
        """Close them, and every one that would still come to rest here."""
        self.is_over = True
        for connection in self:
            connection.close()
        self.clear()


class Connection(asyncio.Protocol):
    """Carries one exchange after another. When an answer is whole, and the server agrees, it joins `idle` again."""

    def __init__(self, idle: Idle) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self.closed = False
        self.outlived_ns = 0
        """After what rest it carries a request, if that is longer than the server seemed to keep it."""
        self._transport: Any = None
        self._waiter: asyncio.Future[Any] | None = None
        self._answer: Answer | None = None
        self._rest = b""
        self._parts: list[bytes] = []
        self._left = self._chunk_left = 0
        self._bodiless = self._streaming = self._keep = False
        self._compressed = False
        self._inflate: Any = None
        self._unread_bytes = 0
        self._came_ns = 0
        self._deadline_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0

    # -- for the client ------------------------------------------------------------------------------------------

    async def exchange(self, request: bytes, deadline_s: float, bodiless: bool, stream: bool) -> Answer:
        """Send a request and return its answer: whole, or with `stream` as soon as its head is there.

        `deadline_s`: on the loop's clock, for the last byte. Raises TransportError.
        """
        self._bodiless, self._streaming, self._answer = bodiless, stream, None
        self._deadline_s = deadline_s
        if self._timer is None or self._timer_s > deadline_s:
            self._set_timer()
        self._waiter = waiter = self._loop.create_future()
        self._transport.write(request)
        try:
            answer: Answer = await waiter
        except BaseException:
            is_answered = waiter.done() and not waiter.cancelled() and waiter.exception() is None
            if not (is_answered and waiter.result().ended):  # else the connection may carry another request by now
                self.close()
            raise
        return answer

    async def read_chunk(self, answer: Answer) -> bytes | None:
        """Wait for the next part of a streamed body; None at its end."""
        while not answer.chunks:
            if answer.ended:
                return None
            if answer.broken is not None:
                raise answer.broken
            self._waiter = self._loop.create_future()
            await self._waiter
        chunks, answer.chunks = answer.chunks, []
        if not answer.ended:  # else the connection carries another answer by now
            self._resume()
        return b"".join(chunks) if len(chunks) > 1 else chunks[0]

    @property
    def rests_since_ns(self) -> int:
        """When the newest of its last answer came (perf_counter_ns)."""
        return self._came_ns

    def close(self) -> None:
        """Close at once."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    # -- time ----------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Set the timer to the deadline. It then looks whether there is a later one, so most requests set no timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_s = self._loop.call_at(self._deadline_s, self._on_timer), self._deadline_s

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None and self._answer is None:
            return  # idle
        if self._loop.time() < self._deadline_s:
            self._set_timer()
        elif self._answer is None:
            self._fail(AnswerTimeoutError("no answer in time"))
        else:
            self._fail(BodyTimeoutError("the answer did not end in time"))

    # -- what comes ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closed and self._answer is None and self._waiter is None and self._came_ns:
            self._idle.keep_alive.closed_after(time.perf_counter_ns() - self._came_ns)
        self.closed = True
        if self._answer is not None:
            if self._left == UNTIL_CLOSE and error is None:
                self._keep, self._came_ns = False, time.perf_counter_ns()
                self._end()
            else:
                self._fail(ConnectionBrokenError("the answer broke off: end of file before message length reached"))
        elif self._waiter is not None:
            text = "connection closed before message completed" if error is None else str(error)
            self._fail(ConnectionBrokenError(text))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def data_received(self, data: bytes) -> None:
        self._came_ns = time.perf_counter_ns()
        if self._rest:
            data = self._rest + data
            self._rest = b""
        try:
            if self._answer is None:
                if self._waiter is None:
                    self.close()  # nobody asked
                    return
                body = self._take_head(data)
                if body is None:
                    return
                data = body
            self._take_body(data)
        except BadAnswerError as error:
            self._fail(error)
        except zlib.error as error:
            self._fail(BadAnswerError(f"bad compression: {error}"))
        except ValueError:  # a header that is no text, a length of thousands of digits
            self._fail(BadAnswerError("a header cannot be read"))

    def _take_head(self, data: bytes) -> bytes | None:
        """Begin the answer and return what follows its head; None while the head is not whole."""
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > HEAD_MAX_BYTES:
                    raise BadAnswerError("message head is too large")
                if not b"HTTP/1.".startswith(data[:7]):
                    raise BadAnswerError("invalid HTTP version parsed")
                self._rest = data
                return None
            head = parse_head(data[:end])
            data = data[end + 4 :]
            if head.status >= 200:
                break
            if head.status == 101:
                raise BadAnswerError("the server changed the protocol without being asked")
        if self.outlived_ns:  # not before an answer: the server's end may have been on its way
            self._idle.keep_alive.kept_for(self.outlived_ns)
            self.outlived_ns = 0
        self._answer = answer = Answer(self, head)
        self._left, self._chunk_left, self._keep = 0 if self._bodiless else head.body, 0, head.keep
        self._compressed, self._inflate = head.compressed, None
        if self._streaming:
            answer.came_ns = self._came_ns
            self._tell(answer)
        return data

    def _take_body(self, data: bytes) -> None:
        left = self._left
        if left == CHUNKED:
            self._take_chunks(data)
        elif left == UNTIL_CLOSE:
            self._deliver(data)
        elif len(data) < left:
            self._left = left - len(data)
            self._deliver(data)
        else:
            if len(data) > left:
                data, self._keep = data[:left], False
            if data:
                self._deliver(data)
            self._end()

    def _take_chunks(self, data: bytes) -> None:
        """Take the chunks (RFC 9112, section 7.1), the last one in part; trailers are passed over."""
        if not self._chunk_left and (line_end := data.find(b"\r\n")) >= 0:  # one whole chunk, as most come
            size = _chunk_size(data[:line_end])
            if size and len(data) == line_end + size + 4 and data.endswith(b"\r\n"):
                self._deliver(data[line_end + 2 : -2])
                return
        at = 0
        while True:
            if self._chunk_left > 2:  # of its bytes and the line end behind them
                part = data[at : at + self._chunk_left - 2]
                self._chunk_left -= len(part)
                at += len(part)
                self._deliver(part)
            if self._chunk_left > 2 or len(data) - at < self._chunk_left:
                break
            if self._chunk_left:
                if data[at : at + 2] != b"\r\n":
                    raise BadAnswerError("invalid chunk end")
                at, self._chunk_left = at + 2, 0
            if (line_end := data.find(b"\r\n", at)) < 0:
                break
            if size := _chunk_size(data[at:line_end]):
                at, self._chunk_left = line_end + 2, size + 2
            elif (end := data.find(b"\r\n\r\n", line_end)) >= 0:
                self._keep = self._keep and end + 4 == len(data)
                self._end()
                return
            else:
                break
        self._rest = data[at:]
        if len(self._rest) > HEAD_MAX_BYTES:
            raise BadAnswerError("a chunk's line is too long")

    def _deliver(self, data: bytes) -> None:
        if self._compressed:
            data = self._inflated(data)
        if not self._streaming:
            self._parts.append(data)
            return
        assert self._answer is not None
        if not data:  # the compressed bytes so far give none
            return
        self._answer.came_ns = self._came_ns
        self._answer.chunks.append(data)
        if self._unread_bytes <= UNREAD_MAX_BYTES < self._unread_bytes + len(data):
            self._transport.pause_reading()
        self._unread_bytes += len(data)
        self._tell(None)

    def _inflated(self, data: bytes) -> bytes:
        if self._inflate is None:
            self._inflate = zlib.decompressobj(GZIP_OR_ZLIB)
        plain: bytes = self._inflate.decompress(data)
        while self._inflate.eof and (rest := self._inflate.unused_data.lstrip(b"\0")):  # gzip may come in members
            self._inflate = zlib.decompressobj(GZIP_OR_ZLIB)
            plain += self._inflate.decompress(rest)
        return plain

    def _end(self) -> None:
        """Finish the answer, which is whole now."""
        if self._inflate is not None and not self._inflate.eof:
            self._fail(BadAnswerError("the compressed answer broke off"))
            return
        answer, self._answer = self._answer, None
        assert answer is not None
        parts = self._parts
        answer.ended = True
        if not self._streaming:  # a stream ends with its last event
            answer.came_ns = self._came_ns
        self._resume()
        if parts:
            answer.content = parts[0] if len(parts) == 1 else b"".join(parts)
            self._parts = []
        if self._keep and not (self.closed or self._idle.is_over):
            if answer.head.keep_alive_s:
                self._idle.keep_alive.told(answer.head.keep_alive_s)
            self._idle.append(self)
        else:
            self.close()
        self._tell(answer)

    def _resume(self) -> None:
        if self._unread_bytes > UNREAD_MAX_BYTES and not self.closed:
            self._transport.resume_reading()
        self._unread_bytes = 0

    def _tell(self, answer: Answer | None) -> None:
        """Wake who waits: for the answer, or for more of it."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def _fail(self, error: TransportError) -> None:
        waiter, self._waiter = self._waiter, None
        if self._answer is not None:
            self._answer.broken = error
        self._answer = None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.close()


@remembered(max_bytes=16, entries=1024)
def _chunk_size(line: bytes) -> int:
    """Return what the first line of a chunk says; raises BadAnswerError."""
    size = line.partition(b";")[0].strip()
    if not size or size.strip(b"0123456789abcdefABCDEF") or len(size) > 15:
        raise BadAnswerError("invalid chunk size line")
    return int(size, 16)
