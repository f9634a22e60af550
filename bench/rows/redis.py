"""SET with expiry and GET of 256 bytes, 100 users without think time, one redis-server on loopback."""

from collections.abc import Callable

from bench.contest import Bench, window
from bench.generators import FOREVER_S, bare, locust
from bench.model import Column, Figures, Goal, Table
from bench.processes import GENERATOR_CORE, Process
from bench.targets import RedisServer

__all__ = ["redis"]

USERS = 100
COLUMNS = [Column("rate", "commands/s"), Column("cpu_us", "us of generator CPU per command")]


def redis(bench: Bench, limit_s: float) -> list[Table]:
    """Compare clients by the commands that Redis itself counts."""
    server = bench.server("redis", lambda: RedisServer(bench.directory / "redis"))
    nowhere = "http://127.0.0.1:9"  # the users ask Redis alone; a host keeps the embedded target from starting

    def rated(start: Callable[[], Process]) -> Callable[[], Figures]:
        def measure() -> Figures:
            with start() as process:
                return window(process, server.served, bench.window_s)

        return measure

    def asyncload(mode: str) -> Process:
        environment = {"ASYNCLOAD_REDIS_URL": server.url, "ASYNCLOAD_REDIS_MODE": mode}
        return locust(bench, "asyncload_redis.py", nowhere, USERS, environment=environment)

    contenders = {
        "asyncload, pool": rated(lambda: asyncload("pool")),
        "asyncload, multiplexed": rated(lambda: asyncload("multiplexed")),
        "redis.asyncio + uvloop, bare": rated(lambda: bare(bench, "asyncio_redis.py", server.url, USERS, "plain")),
        "the same, blocking pool": rated(lambda: bare(bench, "asyncio_redis.py", server.url, USERS, "blocking")),
        "sync redis-py on gevent": rated(
            lambda: locust(bench, "sync_redis.py", nowhere, USERS, environment={"BENCH_REDIS_URL": server.url})
        ),
        "redis-benchmark": rated(lambda: _redis_benchmark(bench, server)),
    }
    table = Table(
        "redis",
        "Redis SET + GET of 256 bytes, 100 users",
        COLUMNS,
        "redis.asyncio + uvloop, bare",
        [
            Goal("asyncload, pool", "rate", ">=", 0.95, "redis.asyncio + uvloop, bare"),
            Goal("asyncload, pool", "rate", ">=", 2, "sync redis-py on gevent"),
            Goal("asyncload, multiplexed", "rate", ">=", 2, "asyncload, pool"),
        ],
        ["Commands are counted by Redis; redis-benchmark (C) sends SET on 100 connections"],
    )
    return [bench.interleave(table, contenders, rounds=1 if bench.quick else 5, limit_s=limit_s)]


def _redis_benchmark(bench: Bench, server: RedisServer) -> Process:
    commands = FOREVER_S * 200_000  # more than it can send in that time
    options = {"-p": server.port, "-c": USERS, "-d": 256, "-r": 100_000, "-n": commands, "-t": "set"}
    words = [str(word) for option in options.items() for word in option]
    return Process([bench.peers.get("redis-benchmark"), *words, "-q"], bench.directory, core=GENERATOR_CORE)
