"""A connection on a transport of straw: every framing in all portions, and what a server can do wrong."""

import asyncio
import gzip
import sys
import time
import zlib
from collections.abc import Coroutine
from typing import Any

import pytest

from asyncload_lib.users.answer import Answer, parse_head
from asyncload_lib.users.http11 import UNREAD_MAX_BYTES, Connection, Idle
from asyncload_lib.users.transport import (
    AnswerTimeoutError,
    BadAnswerError,
    BodyTimeoutError,
    ConnectionBrokenError,
    TransportError,
)

BODY = bytes(range(256)) * 5


class Wire:
    """The transport of a connection: what was written, and whether it still reads."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def connected(idle: Idle) -> tuple[Connection, Wire]:
    connection, wire = Connection(idle), Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    return connection, wire


def begun(connection: Connection, *, bodiless: bool = False, stream: bool = False, timeout_s: float = 5.0) -> Any:
    loop = asyncio.get_running_loop()
    exchange = connection.exchange(b"ask", loop.time() + timeout_s, bodiless, stream)
    return loop.create_task(exchange)


async def answered(data: bytes, portion: int = 1 << 20, *, bodiless: bool = False, end: bool = False) -> Answer:
    """Feed an answer in portions; with `end` the server then closes."""
    connection, _ = connected(Idle())
    task = begun(connection, bodiless=bodiless)
    await asyncio.sleep(0)
    for at in range(0, len(data), portion):
        connection.data_received(data[at : at + portion])
    if end:
        connection.connection_lost(None)
    answer: Answer = await asyncio.wait_for(task, 2)
    return answer


def chunked(body: bytes, size: int, trailer: bytes = b"") -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


OK = b"HTTP/1.1 200 OK\r\n"
FRAMINGS = {
    "length": (OK + b"Content-Length: 1280\r\n\r\n" + BODY, False),
    "same length twice": (OK + b"content-length: 1280\r\nContent-Length: 1280 , 1280\r\n\r\n" + BODY, False),
    "chunked": (OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY, 100), False),
    "chunked, not length": (
        OK + b"content-length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(BODY, 999),
        False,
    ),
    "trailers": (OK + b"transfer-encoding: chunked\r\n\r\n" + chunked(BODY, 7, b"x-sum: 1\r\n"), False),
    "until close": (OK + b"\r\n" + BODY, True),
    "after 100 and 103": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + OK
                          + b"content-length: 1280\r\n\r\n" + BODY, False),
    "gzip": (OK + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
             + chunked(gzip.compress(BODY), 11), False),
    "gzip in members": (OK + b"content-encoding: identity, gzip\r\ntransfer-encoding: chunked\r\n\r\n"
                        + chunked(gzip.compress(BODY[:500]) + gzip.compress(BODY[500:]) + b"\0\0", 11), False),
    "deflate": (OK + b"content-encoding: deflate\r\ncontent-length: %d\r\n\r\n" % len(zlib.compress(BODY))
                + zlib.compress(BODY), False),
}  # fmt: skip


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("portion", [1, 2, 3, 7, 64, 1 << 20])
def test_a_body_is_the_same_in_whatever_portions_it_comes(framing: str, portion: int) -> None:
    data, end = FRAMINGS[framing]
    answer = run(answered(data, portion, end=end))
    assert (answer.status, answer.content, answer.ended) == (200, BODY, True)


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body_whatever_they_say(status: int) -> None:
    assert run(answered(b"HTTP/1.1 %d X\r\ncontent-length: 5\r\n\r\n" % status)).content == b""


def test_the_answer_of_head_has_no_body() -> None:
    assert run(answered(OK + b"content-length: 5\r\n\r\n", bodiless=True)).content == b""


BAD = {
    "no http": b"nonsense\r\n\r\n",
    "no http, unfinished": b"nonsense",
    "no status": b"HTTP/1.1 abc OK\r\n\r\n",
    "two lengths": OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
    "negative length": OK + b"content-length: -1\r\n\r\n",
    "signed length": OK + b"content-length: +1\r\n\r\n",
    "chunk size": OK + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
    "negative chunk": OK + b"transfer-encoding: chunked\r\n\r\n-5\r\n",
    "chunk end": OK + b"transfer-encoding: chunked\r\n\r\n2\r\nabXX",
    "length of thousands of digits": OK + b"content-length: " + b"1" * 5000 + b"\r\n\r\n",
    "header that is no text": OK + b"connection: \xff\r\ncontent-length: 0\r\n\r\n",
    "no gzip": OK + b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
    "half gzip": OK + b"content-encoding: gzip\r\ncontent-length: 20\r\n\r\n" + gzip.compress(BODY)[:20],
    "other protocol": b"HTTP/1.1 101 Switching\r\n\r\n",
    "endless head": OK + b"x: " + b"y" * (1 << 19),
    "endless chunk line": OK + b"transfer-encoding: chunked\r\n\r\n1;" + b"y" * (1 << 19),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_answer_is_refused_and_ends_the_connection(what: str) -> None:
    async def scenario() -> None:
        idle = Idle()
        connection, wire = connected(idle)
        task = begun(connection)
        await asyncio.sleep(0)
        connection.data_received(BAD[what])
        with pytest.raises(BadAnswerError):
            await asyncio.wait_for(task, 2)
        assert (connection.closed, wire.aborted, idle) == (True, True, [])

    run(scenario())


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "connection closed before message completed"),
        (b"HTTP/1.1 200", "connection closed before message completed"),
        (OK + b"content-length: 5\r\n\r\nab", "the answer broke off"),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nab", "the answer broke off"),
    ],
)
def test_a_connection_that_ends_too_early_breaks_the_answer(sent: bytes, reason: str) -> None:
    with pytest.raises(ConnectionBrokenError, match=reason):
        run(answered(sent, end=True))


@pytest.mark.parametrize(
    ("head", "more", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", b"", False),
        (b"HTTP/1.0 200 OK\r\n", b"", False),
        (b"HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\n", b"what nobody asked for", False),
    ],
)
def test_a_connection_is_used_again_only_when_both_sides_agree(head: bytes, more: bytes, kept: bool) -> None:
    async def scenario() -> None:
        idle = Idle()
        connection, _ = connected(idle)
        task = begun(connection)
        await asyncio.sleep(0)
        connection.data_received(head + b"content-length: 1\r\n\r\nx" + more)
        assert (await task).content == b"x"
        assert idle == ([connection] if kept else [])
        assert connection.closed is not kept

    run(scenario())


def rested(idle: Idle, seconds: float) -> Connection:
    connection, _ = connected(idle)
    connection._came_ns = time.perf_counter_ns() - int(seconds * 1e9)
    idle.append(connection)
    return connection


def test_a_connection_that_outlives_what_was_seen_shows_that_it_was_no_limit() -> None:
    async def scenario() -> None:
        idle = Idle()
        keep_alive = idle.keep_alive
        keep_alive.closed_after(2_000_000_000)  # by a worker that ended
        rested(idle, 1.9)
        assert idle.take() is None
        connection = rested(idle, 2.5)
        assert idle.take() is connection
        assert keep_alive.usable_ns == 1_800_000_000  # it is open, but it may be closing
        task = begun(connection)
        await asyncio.sleep(0)
        connection.data_received(OK + b"content-length: 0\r\n\r\n")
        await task
        keep_alive.closed_after(2_400_000_000)
        assert keep_alive.usable_ns == sys.maxsize
        keep_alive.closed_after(5_000_000_000)
        assert keep_alive.usable_ns == 4_500_000_000

    run(scenario())


def test_a_connection_that_breaks_after_a_longer_rest_shows_nothing() -> None:
    async def scenario() -> None:
        idle = Idle()
        idle.keep_alive.closed_after(2_000_000_000)
        connection = rested(idle, 2.5)
        assert idle.take() is connection
        task = begun(connection)
        await asyncio.sleep(0)
        connection.connection_lost(None)
        with pytest.raises(ConnectionBrokenError):
            await task
        assert idle.keep_alive.usable_ns == 1_800_000_000

    run(scenario())


def test_what_the_server_says_of_its_limit_is_not_tried_out() -> None:
    async def scenario() -> None:
        idle = Idle()
        idle.keep_alive.told(2)
        rested(idle, 2.5)
        assert idle.take() is None

    run(scenario())


def test_what_comes_unasked_ends_a_resting_connection() -> None:
    async def scenario() -> None:
        connection, _ = connected(Idle())
        connection.data_received(OK + b"content-length: 0\r\n\r\n")
        assert connection.closed

    run(scenario())


def test_deadlines_hold_on_a_connection_that_is_used_again() -> None:
    async def scenario() -> None:
        connection, _ = connected(Idle())
        for timeout_s in (5.0, 0.2, 5.0):  # the timer of a long one must not hide a short one, nor the reverse
            task = begun(connection, timeout_s=timeout_s)
            await asyncio.sleep(0.25 if timeout_s == 5.0 else 0)
            connection.data_received(OK + b"content-length: 0\r\n\r\n")
            await task
        task = begun(connection, timeout_s=0.05)
        with pytest.raises(AnswerTimeoutError):
            await asyncio.wait_for(task, 2)
        assert connection.closed

    run(scenario())


def test_a_body_that_does_not_end_in_time_has_a_name_of_its_own() -> None:
    async def scenario() -> None:
        connection, _ = connected(Idle())
        task = begun(connection, timeout_s=0.05)
        await asyncio.sleep(0)
        connection.data_received(OK + b"content-length: 5\r\n\r\nab")
        with pytest.raises(BodyTimeoutError):
            await asyncio.wait_for(task, 2)

    run(scenario())


def test_a_cancelled_exchange_takes_its_connection_with_it() -> None:
    async def scenario() -> None:
        idle = Idle()
        connection, wire = connected(idle)
        task = begun(connection)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        connection.data_received(OK + b"content-length: 0\r\n\r\n")  # too late: for nobody else's request
        assert (wire.aborted, connection.closed) == (True, True)
        assert not idle

    run(scenario())


def test_an_exchange_cancelled_when_its_answer_is_whole_leaves_the_connection_to_the_next() -> None:
    async def scenario() -> None:
        idle = Idle()
        connection, wire = connected(idle)
        first = begun(connection)
        await asyncio.sleep(0)
        connection.data_received(OK + b"content-length: 0\r\n\r\n")
        first.cancel()  # in the very turn of the loop that would have woken it
        second = begun(idle.pop())
        with pytest.raises(asyncio.CancelledError):
            await first
        await asyncio.sleep(0)
        assert not wire.aborted
        connection.data_received(OK + b"content-length: 2\r\n\r\nhi")
        assert (await asyncio.wait_for(second, 2)).content == b"hi"

    run(scenario())


def test_an_answer_came_when_it_was_read_and_not_when_its_user_was_woken() -> None:
    async def scenario() -> None:
        connection, _ = connected(Idle())
        task = begun(connection)
        await asyncio.sleep(0)
        connection.data_received(OK + b"content-length: 2\r\n\r\nh")
        half_ns = time.perf_counter_ns()
        connection.data_received(b"i")
        whole_ns = time.perf_counter_ns()
        time.sleep(0.01)  # other users' steps
        assert half_ns <= (await task).came_ns <= whole_ns

    run(scenario())


def test_an_answer_that_ends_with_its_connection_came_when_that_did() -> None:
    async def scenario() -> None:
        connection, _ = connected(Idle())
        task = begun(connection)
        await asyncio.sleep(0)
        connection.data_received(OK + b"\r\nall there is")
        closed_ns = time.perf_counter_ns()
        connection.connection_lost(None)
        assert (await task).came_ns >= closed_ns

    run(scenario())


async def streamed() -> tuple[Connection, Wire, Answer]:
    connection, wire = connected(Idle())
    task = begun(connection, stream=True)
    await asyncio.sleep(0)
    connection.data_received(OK + b"transfer-encoding: chunked\r\n\r\n")
    return connection, wire, await asyncio.wait_for(task, 2)


def test_a_stream_is_read_as_it_comes() -> None:
    async def scenario() -> None:
        connection, _, answer = await streamed()
        for part in (b"one", b"two"):
            reading = asyncio.create_task(answer.read_chunk())
            await asyncio.sleep(0)
            assert not reading.done()
            connection.data_received(b"3\r\n%b\r\n" % part)
            assert await asyncio.wait_for(reading, 2) == part
        connection.data_received(b"1\r\n3\r\n1\r\n4\r\n0\r\n\r\n")
        assert await answer.read_chunk() == b"34"
        assert await answer.read_chunk() is None
        assert not connection.closed

    run(scenario())


def test_a_part_of_a_stream_came_when_it_was_read() -> None:
    async def scenario() -> None:
        connection, _, answer = await streamed()
        before_ns = time.perf_counter_ns()
        connection.data_received(b"3\r\none\r\n")
        after_ns = time.perf_counter_ns()
        time.sleep(0.01)
        assert await answer.read_chunk() == b"one"
        assert before_ns <= answer.came_ns <= after_ns
        connection.data_received(b"0\r\n\r\n")  # a stream ends with its last event
        assert await answer.read_chunk() is None
        assert answer.came_ns <= after_ns

    run(scenario())


WHOLE_CHUNKS = {
    "plain": b"5\r\na\r\nbc\r\n",
    "blanks": b" 5 \r\na\r\nbc\r\n",
    "extension": b"5;x=1\r\na\r\nbc\r\n",
    "long extension": b"5;x=" + b"1" * 40 + b"\r\na\r\nbc\r\n",
    "zeros": b"0005\r\na\r\nbc\r\n",
}


@pytest.mark.parametrize("whole", WHOLE_CHUNKS.values(), ids=WHOLE_CHUNKS)
@pytest.mark.parametrize("cut", [0, 1, 6])
def test_a_chunk_is_the_same_alone_and_in_pieces(whole: bytes, cut: int) -> None:
    async def scenario() -> None:
        connection, _, answer = await streamed()
        for piece in (whole[:cut], whole[cut:]) if cut else (whole,):
            connection.data_received(piece)
        connection.data_received(b"0\r\n\r\n")
        assert await answer.read_chunk() == b"a\r\nbc"

    run(scenario())


def test_a_stream_that_breaks_gives_what_came_and_then_the_reason() -> None:
    async def scenario() -> None:
        connection, _, answer = await streamed()
        connection.data_received(b"3\r\none\r\n")
        connection.connection_lost(None)
        assert await answer.read_chunk() == b"one"
        with pytest.raises(TransportError, match="broke off"):
            await answer.read_chunk()

    run(scenario())


def test_a_server_that_is_faster_than_the_reader_has_to_wait() -> None:
    async def scenario() -> None:
        connection, wire, answer = await streamed()
        piece = b"x" * 65536
        while wire.reading:
            connection.data_received(b"10000\r\n%b\r\n" % piece)
        read = await answer.read_chunk()
        assert read is not None
        assert UNREAD_MAX_BYTES < len(read) <= UNREAD_MAX_BYTES + 65536
        assert wire.reading
        while wire.reading:
            connection.data_received(b"10000\r\n%b\r\n" % piece)
        connection.data_received(b"0\r\n\r\n")
        assert wire.reading  # the next answer on this connection must be heard

    run(scenario())


def test_headers_are_found_without_regard_to_case() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-Set-Cookie: no\r\nset-cookie:b=2 \r\nLocation: /x")
    assert head.values("set-cookie") == ["a=1", "b=2"]
    assert head.values("location") == ["/x"]
    assert head.values("cookie") == []
    assert head.sets_cookies
    answer = run(answered(OK + b"X-One: 1\r\nx-one: 2\r\ncontent-length: 0\r\n\r\n"))
    assert answer.get_header("x-one") == "1"
    assert answer.headers["X-ONE"] == "1"


def test_bytes_that_are_no_text_are_refused_where_they_are_read() -> None:
    answer = run(answered(OK + b"x-odd: \xff\r\ncontent-length: 0\r\n\r\n"))
    with pytest.raises(ValueError, match="decode"):
        answer.get_header("x-odd")
