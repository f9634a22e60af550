"""redis.asyncio on uvloop, no load tester around it: `asyncio_redis.py URL USERS POOL`; records each latency in a list.

POOL: "blocking" (a caller waits for a free connection, as in asyncload's own pool), or "plain", redis-py's default.
"""

import asyncio
import itertools
import secrets
import sys
import time

import redis.asyncio
import uvloop

from bench.garbage import prepare

NUMBERS = itertools.count(1)


async def user(client: redis.asyncio.Redis, latencies: list[float]) -> None:
    while True:
        key, value = f"bench:{next(NUMBERS)}", secrets.token_hex(128).encode()
        begun = time.perf_counter()
        await client.set(key, value, px=60_000)
        assert await client.get(key) == value
        latencies.append(time.perf_counter() - begun)


async def main(url: str, users: int, kind: str) -> None:
    latencies: list[float] = []
    blocking, plain = redis.asyncio.BlockingConnectionPool, redis.asyncio.ConnectionPool
    pools: dict[str, type[redis.asyncio.ConnectionPool]] = {"blocking": blocking, "plain": plain}
    client = redis.asyncio.Redis.from_pool(pools[kind].from_url(url, max_connections=users))
    await asyncio.gather(*(user(client, latencies) for _ in range(users)))


prepare()
uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
