"""Shared Redis clients: who waits is served in turn, whose command is in a shared pipeline gets his own answer."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import gevent
import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from asyncload_lib.target import Target
from asyncload_lib.users.redis import RedisUser
from asyncload_lib.users.redis_clients import MultiplexedRedis, PatientPool, PooledRedis
from tests.users import test_redis as pooled
from tests.users.swarm import Swarm, eventually

server = pooled.server


@asynccontextmanager
async def multiplexed(server: pooled.Server) -> AsyncIterator[MultiplexedRedis]:
    client = MultiplexedRedis.from_pool(PatientPool.from_url(server.url, max_connections=4, timeout=1.0))
    assert isinstance(client, MultiplexedRedis)
    try:
        yield client
    finally:
        await client.aclose()


def test_who_waits_for_a_connection_is_served_in_turn(server: pooled.Server) -> None:
    async def scenario() -> None:
        pool = PatientPool.from_url(server.url, max_connections=2, timeout=5.0)
        held = [await pool.get_connection() for _ in range(2)]
        served: list[int] = []

        async def wait(number: int) -> None:
            connection = await pool.get_connection()
            served.append(number)
            await pool.release(connection)

        waiting = [asyncio.create_task(wait(number)) for number in range(5)]
        await asyncio.sleep(0)
        waiting[1].cancel()  # whoever gives up must not take a place with him
        for connection in held:
            await pool.release(connection)
        await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
        assert served == [0, 2, 3, 4]
        assert len(pool._available_connections) == 2
        await pool.aclose()

    asyncio.run(scenario())


def test_a_place_is_free_again_when_its_connection_could_not_be_made() -> None:
    async def scenario() -> None:
        pool = PatientPool.from_url("redis://127.0.0.1:1", max_connections=1, timeout=0.5)
        for _ in range(3):
            with pytest.raises(RedisConnectionError, match="Error 111"):
                await pool.get_connection()
        await pool.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", [PooledRedis, MultiplexedRedis])
def test_a_connection_that_the_server_has_closed_costs_no_command(
    server: pooled.Server, kind: type[PooledRedis]
) -> None:
    async def scenario() -> None:
        client = kind.from_pool(PatientPool.from_url(server.url, max_connections=4, timeout=1.0))
        await asyncio.gather(*(client.set(f"key-{number}", number) for number in range(8)))
        for _ in range(2):
            server.client.execute_command("CLIENT KILL TYPE normal SKIPME yes")
            connections = client.connection_pool._available_connections
            while not all(connection._reader and connection._reader.at_eof() for connection in connections):
                await asyncio.sleep(0.001)
            found = await asyncio.gather(*(client.get(f"key-{number}") for number in range(8)))
            assert found == [b"%d" % number for number in range(8)]
        await client.aclose()

    asyncio.run(scenario())


def test_a_reply_that_cannot_be_read_is_its_callers_alone(server: pooled.Server) -> None:
    async def scenario() -> None:
        async with multiplexed(server) as client:
            await asyncio.gather(*(client.set(f"key-{number}", number) for number in range(6)))

            def broken(answer: bytes, **_: Any) -> bytes:
                if answer == b"1":
                    raise ValueError("no way")
                return answer

            client.set_response_callback("GET", broken)  # type: ignore[arg-type]
            first = await asyncio.gather(*(client.get(f"key-{n}") for n in range(4)), return_exceptions=True)
            assert [str(found) for found in first] == ["b'0'", "no way", "b'2'", "b'3'"]
            assert [await client.get("key-4"), await client.get("key-5")] == [b"4", b"5"]

    asyncio.run(scenario())


@pytest.mark.parametrize("lanes", [1, 4])
def test_no_command_waits_for_a_lane_that_has_ended(
    server: pooled.Server, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    monkeypatch.setattr(MultiplexedRedis, "LANES", lanes)

    async def user(client: MultiplexedRedis, number: int) -> None:
        for turn in range(50):  # each sends its next command in the step that the last one's answer wakes
            await client.set(f"user-{number}", turn)

    async def scenario() -> None:
        async with multiplexed(server) as client:
            await asyncio.wait_for(asyncio.gather(*(user(client, number) for number in range(8))), 30)
            assert not client._lanes

    asyncio.run(scenario())


def test_each_command_has_the_whole_timeout_and_not_more(server: pooled.Server) -> None:
    async def scenario() -> None:
        client = PooledRedis.from_pool(PatientPool.from_url(server.url, max_connections=1, timeout=1.5))
        for _ in range(2):  # together longer than the timeout
            assert await client.blpop(["nothing"], timeout=0.9) is None
        with pytest.raises(RedisTimeoutError, match=r"1\.5 s"):
            await client.blpop(["nothing"], timeout=30)
        assert await client.ping() is True
        await asyncio.sleep(1.6)  # the timer of the last command finds nothing to break off
        (connection,) = client.connection_pool._available_connections
        assert connection.is_connected
        await client.aclose()

    asyncio.run(scenario())


def test_no_other_timeout_than_the_given_one_ends_a_command(server: pooled.Server) -> None:
    class Person(RedisUser):
        target = Target(redis_url=server.url)
        settings = replace(pooled.DEFAULT, redis=replace(pooled.DEFAULT.redis, timeout=60.0))
        tasks = [RedisUser.set_and_get]

    with Swarm(Person) as swarm:
        swarm.start()
        eventually(lambda: swarm.requests)
        user = swarm.users[0]
        assert isinstance(user, RedisUser)
        pool = user.pool
        connections = [*pool._available_connections, *pool._in_use_connections]
        assert {connection.socket_timeout for connection in connections} <= {None, 60.0}  # None: a command is under way


def test_every_command_of_a_shared_pipeline_has_its_own_answer(server: pooled.Server) -> None:
    async def scenario() -> None:
        async with multiplexed(server) as client:

            async def pair(number: int) -> None:
                assert await client.set(f"k{number}", f"v{number}", px=60_000) is True
                assert await client.get(f"k{number}") == f"v{number}".encode()

            await asyncio.gather(*(pair(number) for number in range(1000)))
        assert server.client.info("clients")["connected_clients"] <= 5

    asyncio.run(scenario())
    assert server.commands()["set"] == 1000
    connections = server.client.info("stats")["total_connections_received"]
    assert connections <= 6  # four lanes, and this test's own


def test_an_error_is_the_answer_of_its_command_alone(server: pooled.Server) -> None:
    async def scenario() -> None:
        async with multiplexed(server) as client:
            await client.set("text", "abc")
            answers = await asyncio.gather(
                client.get("text"), client.incr("text"), client.get("text"), return_exceptions=True
            )
        assert answers[0] == answers[2] == b"abc"
        assert isinstance(answers[1], ResponseError)

    asyncio.run(scenario())


def test_a_caller_that_is_cancelled_leaves_the_others_their_answers(server: pooled.Server) -> None:
    async def scenario() -> None:
        async with multiplexed(server) as client:
            tasks = [asyncio.ensure_future(client.set(f"c{number}", number)) for number in range(300)]
            await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(answer is True for number, answer in enumerate(answers) if number % 3)
            assert await client.get("c1") == b"1"

    asyncio.run(scenario())


def person(server: pooled.Server, **options: Any) -> type[RedisUser]:
    class Person(RedisUser):
        target = Target(redis_url=server.url)
        settings = replace(pooled.DEFAULT, redis=replace(pooled.DEFAULT.redis, mode="multiplexed", **options))

    return Person


def test_users_share_pipelines_when_the_mode_says_so(server: pooled.Server) -> None:
    with Swarm(person(server), stop_timeout=0) as swarm:
        for _ in range(5):
            swarm.start(50)
            gevent.sleep(0.1)
            swarm.stop()
            assert swarm.started == len(swarm.requests) + len(swarm.abandoned)
    assert len(swarm.requests) > 50
    assert swarm.failures == []  # an answer of somebody else's command would be a wrong value
    assert server.client.info("stats")["total_connections_received"] <= 6
    commands = server.commands()
    assert commands["set"] >= len(swarm.requests)


@pytest.mark.chance
def test_a_server_that_hangs_or_dies_fails_what_is_under_way(server: pooled.Server) -> None:
    with Swarm(person(server, timeout=0.3)) as swarm:
        swarm.start(20)
        eventually(lambda: len(swarm.requests) > 100)
        os.kill(server.process.pid, signal.SIGSTOP)
        eventually(lambda: len(swarm.failures) >= 20)
        os.kill(server.process.pid, signal.SIGCONT)
        before = len(swarm.requests)
        eventually(lambda: sum(event["exception"] is None for event in swarm.requests[before:]) > 100)
        server.process.kill()
        server.process.wait()
        eventually(lambda: type(swarm.requests[-1]["exception"]).__name__ == "ConnectionError")
        swarm.stop()
    names = {type(event["exception"]).__name__ for event in swarm.requests} - {"NoneType"}
    assert {"TimeoutError", "ConnectionError"} == names


@pytest.mark.parametrize("client_class", [PooledRedis, MultiplexedRedis])
def test_a_connection_that_is_closed_before_the_command_is_sent_is_told_as_such(
    client_class: type[PooledRedis], server: pooled.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closed(pool: PatientPool, get: Any = PatientPool.get_connection) -> Any:
        connection = await get(pool)
        connection._writer.transport.abort()
        await asyncio.sleep(0.01)
        return connection

    async def scenario() -> None:
        client = client_class.from_pool(PatientPool.from_url(server.url, max_connections=1, timeout=5.0))
        assert await client.execute_command("PING")
        with monkeypatch.context() as broken:
            broken.setattr(PatientPool, "get_connection", closed)
            with pytest.raises(RedisConnectionError):
                await client.execute_command("PING")
        assert await client.execute_command("PING")  # on a new connection
        await client.aclose()

    uvloop.run(scenario())


def test_certificates_are_read_once_for_all_connections() -> None:
    pool = PatientPool.from_url("rediss://127.0.0.1:1", max_connections=2, timeout=1.0)
    first, second = pool.make_connection(), pool.make_connection()
    assert first.ssl_context.get() is second.ssl_context.get()
    assert first.ssl_context.get().check_hostname
    other = PatientPool.from_url("rediss://127.0.0.1:1?ssl_cert_reqs=none", max_connections=2, timeout=1.0)
    assert not other.make_connection().ssl_context.get().check_hostname
