"""Redis users: one try per command, a bounded pool, values that are verified."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
import redis
from locust import constant, task
from locust.exception import StopUser

from asyncload_lib.demo.redis_server import find_redis_server
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target
from asyncload_lib.users.base import loop_thread
from asyncload_lib.users.redis import RedisUser
from tests.users.swarm import Swarm, eventually

DEFAULT = Settings()


class Server:
    """A real Redis that can be killed."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command: list[str | Path] = [
            find_redis_server(),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            directory,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port)
        eventually(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def commands(self) -> dict[str, int]:
        """How often each command was executed."""
        stats = self.client.info("commandstats")
        return {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}

    def end(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    yield started
    started.end()


def person(url: str, operations: int = 1, **options: Any) -> type[RedisUser]:
    """A user that does that many operations."""

    class Person(RedisUser):
        target = Target(redis_url=url)
        settings = replace(DEFAULT, redis=replace(DEFAULT.redis, **options))

        @task
        async def work(self) -> None:
            for _ in range(operations):
                await self.operation()
            raise StopUser

    Person.tasks = [Person.work]
    return Person


def test_an_operation_is_a_set_with_expiry_and_a_get(server: Server) -> None:
    with Swarm(person(server.url, 10, value_bytes=300, ttl=30.0, key_prefix="mine:")) as swarm:
        swarm.run(5)
    assert swarm.failures == []
    assert {(event["request_type"], event["name"]) for event in swarm.requests} == {("REDIS", "set+get")}
    assert {event["response_length"] for event in swarm.requests} == {300}
    names = [name for name, _ in swarm.metrics]
    assert (names.count("redis_set"), names.count("redis_get")) == (50, 50)
    commands = server.commands()
    assert (commands["set"], commands["get"]) == (50, 50)
    keys = server.client.keys()
    assert len(keys) == 50
    assert all(isinstance(key, bytes) and key.startswith(b"mine:") for key in keys)
    assert all(0 < server.client.pttl(key) <= 30_000 for key in keys)


def test_a_value_that_is_not_the_one_written_is_a_failure(server: Server) -> None:
    class Person(person(server.url)):  # type: ignore[misc]
        async def operation(self, intended_ns: int | None = None) -> None:
            original = self.redis.get

            async def get(key: str) -> Any:
                await self.redis.set(key, "somebody else's")
                return await original(key)

            self.redis.get = get
            try:
                await super().operation(intended_ns)
            finally:
                del self.redis.get

    with Swarm(Person) as swarm:
        swarm.run()
    assert swarm.failures == ["the value read is not the value written"]


@pytest.mark.chance
def test_a_killed_server_fails_every_operation_by_name_and_at_once(server: Server) -> None:
    class Person(RedisUser):
        target = Target(redis_url=server.url)
        wait_time = constant(0.01)

    with Swarm(Person) as swarm:
        swarm.start(10)
        eventually(lambda: len(swarm.requests) > 50)
        server.process.kill()
        server.process.wait()
        eventually(lambda: len(swarm.failures) > 100)
        swarm.stop()
    failed = [event for event in swarm.requests if event["exception"] is not None]
    assert {type(event["exception"]).__name__ for event in failed} == {"ConnectionError"}
    # Ten hidden tries, as redis-py makes by default, would have taken seconds.
    assert sorted(event["response_time"] for event in failed)[len(failed) // 2] < 100
    first_failure = swarm.requests.index(failed[0])
    assert all(event["exception"] is not None for event in swarm.requests[first_failure + 10 :])


def test_a_command_that_fails_is_sent_once(server: Server) -> None:
    server.client.execute_command("ACL", "SETUSER", "default", "-get")
    with Swarm(person(server.url, 5)) as swarm:
        swarm.run()
    assert {type(event["exception"]).__name__ for event in swarm.requests} == {"NoPermissionError"}
    server.client.execute_command("ACL", "SETUSER", "default", "+get")
    assert server.client.info("commandstats")["cmdstat_get"]["rejected_calls"] == 5


def test_a_command_without_an_answer_is_sent_once() -> None:
    received: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            received.append(line.strip())
            if line.strip() == b"PX":  # the end of SET key value PX ...
                break
            if line.strip() == b"HELLO":
                writer.write(b"-ERR unknown command\r\n")
        writer.close()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(hang_up, "127.0.0.1", 0)

    listener: asyncio.Server = loop_thread().call(listen())
    port = listener.sockets[0].getsockname()[1]
    with Swarm(person(f"redis://127.0.0.1:{port}/0?protocol=2", 3)) as swarm:
        swarm.run()
    loop_thread().post(listener.close)
    assert {type(event["exception"]).__name__ for event in swarm.requests} == {"ConnectionError"}
    assert received.count(b"SET") == 3


@pytest.mark.chance
def test_a_server_that_hangs_costs_the_timeout_and_no_more(server: Server) -> None:
    with Swarm(person(server.url, timeout=0.2)) as swarm:
        os.kill(server.process.pid, signal.SIGSTOP)
        swarm.run(5)
        os.kill(server.process.pid, signal.SIGCONT)
    assert {type(event["exception"]).__name__ for event in swarm.requests} == {"TimeoutError"}
    assert all(190 <= event["response_time"] < 1500 for event in swarm.requests)


async def by_pipeline(user: RedisUser) -> None:
    pipeline = user.redis.pipeline()
    pipeline.set("a", 1)
    pipeline.get("a")
    await pipeline.execute()


async def by_transaction(user: RedisUser) -> None:
    async with user.redis.pipeline() as pipeline:
        await pipeline.watch("a")
        pipeline.multi()
        pipeline.set("a", 1)
        await pipeline.execute()


async def by_connection(user: RedisUser) -> None:
    connection = await user.pool.get_connection()
    try:
        await connection.send_command("PING")
        await connection.read_response()
    finally:
        await user.pool.release(connection)


@pytest.mark.parametrize("mode", ["pool", "multiplexed"])
@pytest.mark.parametrize("way", [by_pipeline, by_transaction, by_connection])
def test_no_way_to_the_server_waits_for_it_longer_than_the_timeout(
    server: Server, mode: str, way: Callable[[RedisUser], Awaitable[None]]
) -> None:
    class Person(person(server.url, timeout=0.2, mode=mode)):  # type: ignore[misc]
        async def operation(self, intended_ns: int | None = None) -> None:
            async with self.measure("REDIS", "own"):
                await way(self)

    with Swarm(person(server.url, timeout=0.2, mode=mode)) as swarm:
        swarm.run()  # leaves a connection to use again
    with Swarm(Person) as swarm:
        swarm.run()
        assert swarm.failures == []
        os.kill(server.process.pid, signal.SIGSTOP)
        swarm.run()
        os.kill(server.process.pid, signal.SIGCONT)
    (failure,) = swarm.failures
    assert failure == f"Timeout reading from 127.0.0.1:{server.port}"


def test_connections_are_bounded_and_who_waits_for_one_too_long_fails(server: Server) -> None:
    with Swarm(person(server.url, 3, max_connections=4)) as swarm:
        swarm.run(40)
        assert swarm.failures == []
        assert len(swarm.requests) == 120
        assert server.client.info("clients")["connected_clients"] <= 5

    class Keeper(person(server.url, max_connections=4, timeout=0.2)):  # type: ignore[misc]
        async def operation(self, intended_ns: int | None = None) -> None:
            held = [await self.hold_connection() for _ in range(5)]
            assert held[4] is None
            try:
                await super().operation(intended_ns)
            finally:
                for connection in held[:4]:
                    await self.pool.release(connection)

    with Swarm(Keeper) as swarm:
        swarm.run()
    assert swarm.failures == ["No connection available."]
    assert swarm.errors == []


def test_random_stops_neither_mix_up_answers_nor_lose_connections(server: Server) -> None:
    class Person(RedisUser):
        target = Target(redis_url=server.url)
        settings = replace(DEFAULT, redis=replace(DEFAULT.redis, max_connections=10, timeout=2.0))

    with Swarm(Person, stop_timeout=0) as swarm:
        for _ in range(8):
            swarm.start(20)
            gevent.sleep(0.05)
            swarm.stop()
            assert swarm.started == len(swarm.requests) + len(swarm.abandoned)
        assert swarm.abandoned
        gevent.sleep(0.05)
        before = len(swarm.requests)
        with_all_connections = swarm.start(10)
        eventually(lambda: len(with_all_connections.requests) > before + 50)
    assert swarm.failures == []  # an answer of somebody else's command would be a wrong value


def test_without_an_address_the_test_stops_with_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    class Person(RedisUser):
        target = Target()

    with Swarm(Person) as swarm:
        swarm.start()
        eventually(lambda: swarm.runner.state == "stopped")
    assert "no Redis: set `redis.url`" in caplog.text


def test_connections_are_closed_with_the_loop(server: Server) -> None:
    with Swarm(person(server.url, 3)) as swarm:
        swarm.run(20)
    assert server.client.info("clients")["connected_clients"] > 1
    loop_thread().close()
    eventually(lambda: server.client.info("clients")["connected_clients"] == 1)
    assert asyncio.run(asyncio.sleep(0, "no loop is left set")) == "no loop is left set"
