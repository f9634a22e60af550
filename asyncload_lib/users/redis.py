"""Users of a pooled `redis.asyncio` manager."""

import asyncio
import time
from typing import Any

from locust import task
from locust.exception import StopTest
from redis.exceptions import RedisError

from asyncload_lib.users.base import AsyncUser
from asyncload_lib.users.entries import Entries
from asyncload_lib.users.ordinals import next_ordinal
from asyncload_lib.users.redis_clients import redis_manager

__all__ = ["CONNECTING", "RedisUser"]

CONNECTING = 0.1
"""The part of `redis.timeout` that a user may take before the release to connect; what takes longer is measured."""


class RedisUser(AsyncUser):
    """One operation after another: SET with expiry, GET, compare; the pair counts as one request `set+get`.

    The two commands' own times are kept beside it as `redis_set` and `redis_get`. With `redis.mode` "pool" a command
    has a connection to itself, as in a service under test; with "multiplexed" the commands of all users share few, as
    pipelines, which saturates a server. Raises StopTest without `redis.url`.

    `redis` is the client (`redis.asyncio`), for tasks of your own; all users of a process share it and its `pool`. What
    has no answer after `redis.timeout` fails: a command, a pipeline, or a read on a connection taken from the pool.
    """

    abstract = True
    scenario = "redis"
    required_setting = "redis.url"

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        if not self.target.redis_url:
            raise StopTest("no Redis: set `redis.url`, or configure nothing to use the embedded target")
        self.redis = redis_manager(self.loop_thread, self.target.redis_url, self.settings.redis)
        self.pool: Any = self.redis.connection_pool
        self._ordinal = next_ordinal(environment)
        self.take_place(self._ordinal)

    def take_place(self, ordinal: int) -> None:
        """Become the `ordinal`-th user of the run; its number decides the values that this user writes."""
        options = self.settings.redis
        prefix = f"{options.key_prefix}{self.run_id}:{self._ordinal}:"
        self._entries = Entries(prefix, options.value_bytes, self.settings.seed, ordinal)

    async def hold_connection(self) -> Any:
        """Open a connection and keep it for now; None when the pool has no more, or Redis does not answer.

        An error of Redis is not raised here, where it would end the user: it shows in the operation that is measured.
        """
        try:
            async with asyncio.timeout(self.settings.redis.timeout * CONNECTING):
                return await self.pool.get_connection()
        except (RedisError, OSError):
            return None

    @task
    async def set_and_get(self) -> None:
        await self.operation()

    async def operation(self, intended_ns: int | None = None) -> None:
        """SET a value of its own under a key of its own with expiry, GET it, and compare."""
        options = self.settings.redis
        key, value = self._entries.next()
        async with self.measure("REDIS", "set+get", intended_ns=intended_ns) as operation:
            begun_ns = time.perf_counter_ns()
            await self.redis.set(key, value, px=max(int(options.ttl * 1000), 1))
            set_ns = time.perf_counter_ns()
            found = await self.redis.get(key)
            operation.metric("redis_set", [(set_ns - begun_ns) / 1e3])
            operation.metric("redis_get", [(time.perf_counter_ns() - set_ns) / 1e3])
            operation.response_length = 0 if found is None else len(found)
            if found != value:
                operation.failure("the value read is not the value written")
