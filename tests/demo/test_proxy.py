"""The delay proxy between a real client and a real server: it adds time and nothing else."""

import asyncio
import hashlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import uvloop

from asyncload_lib.demo import proxy
from asyncload_lib.demo.proxy import serve_proxy

pytestmark = pytest.mark.chance

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def proxied(handler: Handler, delay_s: float) -> AsyncIterator[Callable[[], Awaitable[Streams]]]:
    """Run `handler` as a server behind the proxy; yield what opens a connection to the proxy."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    listening = socket.create_server(("127.0.0.1", 0))
    running = await serve_proxy(listening, server.sockets[0].getsockname(), delay_s)
    port = listening.getsockname()[1]
    writers = []

    async def connect() -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in writers:
            writer.transport.abort()  # not close: a failed test must not wait for a server that does not read
        running.close()
        server.close()
        await asyncio.sleep(2 * delay_s + 0.05)  # what is still on the way


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


def test_every_round_trip_takes_twice_the_delay_also_with_many_at_once() -> None:
    async def round_trips() -> list[float]:
        async with proxied(echo, 0.02) as connect:

            async def one() -> list[float]:
                reader, writer = await connect()
                took_s = []
                for _ in range(5):
                    began = time.perf_counter()
                    writer.write(b"ping")
                    await reader.readexactly(4)
                    took_s.append(time.perf_counter() - began)
                return took_s

            return [took for many in await asyncio.gather(*(one() for _ in range(50))) for took in many]

    took_s = sorted(uvloop.run(round_trips()))
    assert took_s[0] >= 0.04
    assert took_s[len(took_s) // 2] < 0.07


def test_throughput_is_not_bounded_by_the_delay() -> None:
    block = bytes(range(256)) * 4096  # 1 MiB

    async def transfer() -> tuple[str, float]:
        received = hashlib.sha256()
        done = asyncio.Event()

        async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(1 << 18):
                received.update(data)
            writer.close()
            done.set()

        async with proxied(sink, 0.1) as connect:
            _, writer = await connect()
            began = time.perf_counter()
            for _ in range(64):
                writer.write(block)
                await writer.drain()
            writer.write_eof()
            await done.wait()
            return received.hexdigest(), time.perf_counter() - began

    digest, took_s = uvloop.run(transfer())
    expected = hashlib.sha256()
    for _ in range(64):
        expected.update(block)
    assert digest == expected.hexdigest()
    assert took_s < 5  # one window of 64 KiB per delay: more than 100 s


def test_order_holds_in_both_directions_at_once() -> None:
    count = 3000

    async def lines() -> list[bytes]:
        async with proxied(echo, 0.003) as connect:
            reader, writer = await connect()

            async def send() -> None:
                for number in range(count):
                    writer.write(b"%d\n" % number)
                    if number % 7 == 0:
                        await asyncio.sleep(0.0005 * (number % 5))

            sending = asyncio.create_task(send())
            received = [await reader.readline() for _ in range(count)]
            await sending
            return received

    assert uvloop.run(lines()) == [b"%d\n" % number for number in range(count)]


def test_an_end_in_one_direction_leaves_the_other_open() -> None:
    async def answer_after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read()
        await asyncio.sleep(0.02)
        writer.write(b"answer to " + question)
        writer.close()

    async def half_closed() -> bytes:
        async with proxied(answer_after_the_end, 0.01) as connect:
            reader, writer = await connect()
            writer.write(b"question")
            writer.write_eof()
            return await asyncio.wait_for(reader.read(), 5)

    assert uvloop.run(half_closed()) == b"answer to question"


def test_a_server_that_closes_closes_the_client_after_the_last_byte() -> None:
    async def last_words(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.close()

    async def read() -> bytes:
        async with proxied(last_words, 0.01) as connect:
            reader, _ = await connect()
            return await asyncio.wait_for(reader.read(), 5)

    assert uvloop.run(read()) == b"bye"


def test_a_client_that_leaves_ends_the_servers_connection() -> None:
    async def leave() -> bool:
        ended = asyncio.Event()

        async def wait_for_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            ended.set()

        async with proxied(wait_for_end, 0.01) as connect:
            _, writer = await connect()
            writer.transport.abort()
            await asyncio.wait_for(ended.wait(), 5)
            return True

    assert uvloop.run(leave())


def test_without_a_server_the_client_is_closed() -> None:
    async def refused() -> bytes:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            listening = socket.create_server(("127.0.0.1", 0))
            running = await serve_proxy(listening, unused.getsockname(), 0.01)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            try:
                return await asyncio.wait_for(reader.read(), 5)
            except ConnectionResetError:
                return b""
            finally:
                writer.close()
                running.close()

    assert uvloop.run(refused()) == b""


def test_a_server_that_does_not_read_stops_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "HIGH_WATER_BYTES", 1 << 20)

    async def accepted() -> tuple[bool, int, int]:
        go_on = asyncio.Event()
        total = 0
        done = asyncio.Event()

        async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal total
            transport = cast(asyncio.Transport, writer.transport)
            transport.pause_reading()
            await go_on.wait()
            transport.resume_reading()
            while data := await reader.read(1 << 18):
                total += len(data)
            writer.close()
            done.set()

        async with proxied(read_late, 0.001) as connect:
            _, writer = await connect()
            sent, stopped = 0, False
            while not stopped and sent < 100 << 20:
                writer.write(bytes(1 << 18))
                sent += 1 << 18
                try:
                    await asyncio.wait_for(writer.drain(), 0.5)
                except TimeoutError:
                    stopped = True
            go_on.set()
            writer.write_eof()
            await asyncio.wait_for(done.wait(), 10)
            return stopped, sent, total

    stopped, sent, total = uvloop.run(accepted())
    assert stopped, "the proxy takes everything"
    assert sent == total
