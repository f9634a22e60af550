"""The loop of the users: its threads, and how it finds the address behind a name."""

import _socket
import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from asyncload_lib.eventloop.pool import PoolLoop

NAME = "chat.asyncload.invalid"


def place(address: str, port: int) -> tuple[Any, ...]:
    return (_socket.AF_INET, _socket.SOCK_STREAM, 6, "", (address, port))


def connected_to(monkeypatch: pytest.MonkeyPatch, host: str, addresses: list[str]) -> tuple[str, list[int]]:
    """Connect to a server at 127.0.0.1 by `host`, a name of these addresses; where it led, and who looked names up."""
    asked: list[int] = []

    async def main() -> str:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        def getaddrinfo(name: str, wanted: int, *_: int) -> list[tuple[Any, ...]]:
            assert (name, wanted) == (host, port)
            asked.append(threading.get_ident())
            if not addresses:
                raise _socket.gaierror(-2, "Name or service not known")
            return [place(address, port) for address in addresses]

        monkeypatch.setattr(_socket, "getaddrinfo", getaddrinfo)
        try:
            reader, writer = await asyncio.open_connection(host, port)
            assert await reader.read() == b""
            writer.close()
            address: str = writer.get_extra_info("peername")[0]
            return address
        finally:
            server.close()

    loop = PoolLoop(2)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main()), asked
    finally:
        loop.run_until_complete(loop.close_pools(5.0))
        loop.close()
        asyncio.set_event_loop(None)


def test_a_name_is_looked_up_in_a_thread_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    address, asked = connected_to(monkeypatch, NAME, ["127.0.0.1"])
    assert address == "127.0.0.1"
    assert len(asked) == 1
    assert asked[0] != threading.get_ident()


def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connected_to(monkeypatch, "127.0.0.1", []) == ("127.0.0.1", [])


def test_of_several_addresses_the_first_that_answers_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    address, _ = connected_to(monkeypatch, NAME, ["127.0.0.2", "127.0.0.1"])
    assert address == "127.0.0.1"


@pytest.mark.parametrize("addresses", [[], ["127.0.0.2", "127.0.0.3"]])
def test_a_name_that_leads_nowhere_is_an_error_of_the_connection(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    with pytest.raises(OSError, match="refused" if addresses else "not known"):
        connected_to(monkeypatch, NAME, addresses)


def test_threads_end_with_their_executor() -> None:
    """A task may make a pool of its own each time."""

    async def main() -> None:
        running = asyncio.get_running_loop()
        before = threads()
        for _ in range(5):
            executor = ThreadPoolExecutor(4)
            jobs = [running.run_in_executor(executor, time.sleep, 0.01) for _ in range(4)]
            assert threads() == before + 4
            await asyncio.gather(*jobs)
            del executor
            async with asyncio.timeout(30):
                while threads() > before:
                    await asyncio.sleep(0.01)

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    loop = PoolLoop(2)
    try:
        loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.close_pools(5.0))
        loop.close()


def test_a_job_that_comes_after_the_end_is_done_all_the_same() -> None:
    """As of an async generator that is closed last, with a file."""
    loop = PoolLoop(2)

    async def main() -> int:
        await asyncio.gather(*(asyncio.to_thread(len, "ab") for _ in range(2)))
        await loop.close_pools(5.0)
        async with asyncio.timeout(5.0):
            return await asyncio.to_thread(len, "abc")

    try:
        assert loop.run_until_complete(main()) == 3
    finally:
        loop.run_until_complete(loop.close_pools(5.0))
        loop.close()
