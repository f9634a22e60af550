"""Redis clients that many users share: a pool that lets them wait, and one that sends their commands together."""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from asyncload_lib.eventloop.thread import LoopThread
from asyncload_lib.options import Redis

__all__ = ["MultiplexedRedis", "PatientPool", "PooledRedis", "redis_manager"]

Command = tuple[tuple[Any, ...], dict[str, Any]]
"""A command's words, and redis-py's options for reading its answer."""


class PatientPool(redis_asyncio.ConnectionPool):
    """A pool whose callers wait up to `timeout` seconds for a free connection, then get redis-py's own error.

    Each answer on its connections may take as long, whoever reads it: a pipeline, or who has taken one of them.
    It does what redis-py's BlockingConnectionPool does for a third of the CPU time (25 us a command): it needs no lock
    around what no other task can interrupt, and counts nothing for redis-py's metrics.
    """

    def __init__(self, *, timeout: float, max_connections: int, **options: Any) -> None:
        super().__init__(max_connections=max_connections, socket_timeout=timeout, **options)
        self.timeout = timeout
        self._places = asyncio.Semaphore(max_connections)
        self._tls: Any = None
        self._reading = asyncio.Lock()

    def make_connection(self) -> Any:
        """Return a new connection. All share one TLS context: to read the certificates takes 10 to 30 ms."""
        connection: Any = super().make_connection()  # type: ignore[no-untyped-call]
        if (tls := getattr(connection, "ssl_context", None)) is not None:
            self._tls = connection.ssl_context = self._tls or tls
        return connection

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """Return a connection that is ready; raises redis-py's ConnectionError and TimeoutError."""
        if self._places.locked():
            try:
                async with asyncio.timeout(self.timeout):
                    await self._places.acquire()
            except TimeoutError:
                raise RedisConnectionError("No connection available.") from None
        else:
            await self._places.acquire()
        connection = self.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            if self._tls is not None and self._tls.context is None:
                async with self._reading:
                    await asyncio.to_thread(self._tls.get)  # reads the certificates; does nothing if another task has
            if connection.is_connected and await connection.can_read():
                await connection.disconnect(nowait=True)  # closed by the server, or with a reply that nobody read
            if not connection.is_connected:
                async with asyncio.timeout(self.timeout):  # includes the greeting that follows the connect
                    await self.ensure_connection(connection)
        except TimeoutError:
            await self.release(connection)
            raise RedisTimeoutError(f"no connection within {self.timeout:g} s") from None
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: Any) -> None:
        """Take a connection back."""
        self._in_use_connections.remove(connection)
        try:
            if connection.should_reconnect():
                await connection.disconnect()
        finally:
            self._available_connections.append(connection)
            self._places.release()


class Deadline:
    """Breaks a connection off when a `with` block has used it for `limit_s`; one timer serves many blocks.

    It stands for the connection's own timeout, for which redis-py starts and ends two timers with each command (15 us).
    A connection that turns out to be closed raises redis-py's ConnectionError on uvloop, too.
    """

    def __init__(self, connection: Any, limit_s: float) -> None:
        self._connection = connection
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._due_s = math.inf
        self._is_set = self._passed = False

    def __enter__(self) -> None:
        self._due_s, self._passed = self._loop.time() + self._limit_s, False
        self._connection.socket_timeout = None
        if not self._is_set:
            self._is_set = True
            self._loop.call_at(self._due_s, self._look)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._due_s = math.inf
        self._connection.socket_timeout = self._limit_s
        if error is None:
            return
        # uvloop's word for a transport that was closed before the command was written.
        is_closed = isinstance(error, RuntimeError) and not self._connection.is_connected
        if self._passed and (is_closed or isinstance(error, RedisConnectionError)):
            raise RedisTimeoutError(f"no answer within {self._limit_s:g} s") from None
        if is_closed:
            raise RedisConnectionError("the connection was closed before the command was sent") from error

    def _look(self) -> None:
        self._is_set = self._loop.time() < self._due_s < math.inf
        if self._is_set:
            self._loop.call_at(self._due_s, self._look)
        elif self._due_s < math.inf and self._connection.is_connected:
            self._passed = True
            self._connection._writer.transport.abort()


class PooledRedis(redis_asyncio.Redis):
    """A client that takes a connection from its `PatientPool` for each command, which it sends once.

    It leaves out what redis-py does besides and nobody uses here: retries and metrics.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._deadlines: dict[Any, Deadline] = {}

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send the command and return its answer; raises what redis-py raises."""
        pool: Any = self.connection_pool
        connection = await pool.get_connection()
        try:
            with self._deadline(connection):
                await connection.send_command(*args)
                return await self.parse_response(connection, args[0], **options)
        finally:
            await pool.release(connection)

    def _deadline(self, connection: Any) -> Deadline:
        deadline = self._deadlines.get(connection)
        if deadline is None:
            pool: Any = self.connection_pool
            deadline = self._deadlines[connection] = Deadline(connection, pool.timeout)
        return deadline


class MultiplexedRedis(PooledRedis):
    """A client whose commands go out together with whatever else is waiting, as one pipeline.

    Each of `LANES` connections carries one pipeline at a time; commands that come meanwhile wait for the next, and
    that wait is part of their latency. An answer is each caller's own, and so is a reply that is an error; a
    connection that breaks fails its whole pipeline, which is sent once like any command.
    """

    LANES = 4
    PIPELINE_MAX = 200
    """Most commands in one pipeline; in a longer one the first caller waits too long for those behind it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._waiting: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._lanes: set[asyncio.Task[None] | None] = set()

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Have the command sent with the next pipeline and return its answer; raises what redis-py raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(((args, options), answer))
        if len(self._lanes) < self.LANES:
            lane = loop.create_task(self._carry())  # it begins after the commands of this turn of the loop
            self._lanes.add(lane)
            lane.add_done_callback(self._lanes.discard)
        return await answer

    async def _carry(self) -> None:
        while self._waiting:
            await self._carry_some()
        # Here, not only when the task is done: a command that comes before that would wait for a lane that has ended.
        self._lanes.discard(asyncio.current_task())

    async def _carry_some(self) -> None:
        waiting = self._waiting
        taken = [waiting.popleft() for _ in range(min(len(waiting), self.PIPELINE_MAX))]
        answers: list[Any]
        try:
            answers = await self._send([command for command, _ in taken])
        except Exception as error:
            answers = [error] * len(taken)
        for (_, future), answer in zip(taken, answers, strict=True):
            if future.done():  # its user was stopped
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def _send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands as one and return their answers; a reply that is an error is one of them."""
        pool: Any = self.connection_pool
        connection = await pool.get_connection()
        try:
            with self._deadline(connection):
                await connection.send_packed_command(connection.pack_commands([args for args, _ in commands]))
                return [await self._answer(connection, args[0], options) for args, options in commands]
        finally:
            await pool.release(connection)

    async def _answer(self, connection: Any, name: Any, options: dict[str, Any]) -> Any:
        try:
            return await self.parse_response(connection, name, **options)
        except Exception as error:
            if not connection.is_connected:
                raise
            return error  # it concerns this reply alone, which was read to its end


def redis_manager(thread: LoopThread, url: str, options: Redis) -> "redis_asyncio.Redis":
    """Return the process's client for `url`, made on first use and closed with the loop.

    redis-py would hide an outage behind ten retries and report it as slow success: here a command is tried once.
    A caller waits at most `redis.timeout` for a free connection, and as long again for an answer.
    """
    key = (url, options)
    client: redis_asyncio.Redis | None = thread.resources.get(key)
    if client is None:
        multiplexed, most = options.mode == "multiplexed", options.max_connections
        kind = MultiplexedRedis if multiplexed else PooledRedis
        pool = PatientPool.from_url(
            url,
            max_connections=min(MultiplexedRedis.LANES, most) if multiplexed else most,
            timeout=options.timeout,
            socket_connect_timeout=options.timeout,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
        )
        client = thread.resources[key] = kind.from_pool(pool)
    return client
