"""How each load generator is started: Locust with a locustfile of `bench/locustfiles`, or a peer."""

import sys
from collections.abc import Mapping
from pathlib import Path

from bench.contest import Bench
from bench.processes import GENERATOR_CORE, ROOT, Process
from bench.targets import BODY

__all__ = ["LOCUST", "bare", "hey", "locust"]

LOCUST = Path(sys.executable).parent / "locust"
LOCUSTFILES = ROOT / "bench" / "locustfiles"
BARE = ROOT / "bench" / "bare"

FOREVER_S = 600
"""Longer than any measurement: the benchmark ends the generator when it has counted enough."""


def locust(
    bench: Bench,
    locustfile: str,
    host: str,
    users: int,
    *,
    processes: int = 1,
    run_time_s: float = FOREVER_S,
    arguments: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    core: int | None = GENERATOR_CORE,
) -> Process:
    """Start the `locust` command with all users at once; its reports go below the benchmark's directory.

    A single process may use only `core`; several may use all cores.
    """
    command = [LOCUST, "-f", LOCUSTFILES / locustfile, "--headless", "-H", host, "-u", users, "-r", users]
    command += ["-t", f"{run_time_s:g}s", "--only-summary", "--loglevel", "ERROR", *arguments]
    if processes > 1:
        command += ["--processes", processes, "--master-bind-host", "127.0.0.1"]
    out = {"ASYNCLOAD_OUT": str(bench.directory / "reports")}
    core = core if processes == 1 else None
    return Process(list(map(str, command)), bench.directory, {**out, **(environment or {})}, core)


def bare(
    bench: Bench,
    program: str,
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    core: int | None = GENERATOR_CORE,
) -> Process:
    """Start a generator without Locust: a program of `bench/bare` in the peers' environment, or in ours."""
    python = bench.peers.get("python") if program.startswith("aiohttp") else sys.executable
    return Process([python, BARE / program, *map(str, arguments)], bench.directory, environment, core)


def hey(bench: Bench, url: str, connections: int, *arguments: object, core: int | None = GENERATOR_CORE) -> Process:
    """Start hey (Go) on `connections` connections."""
    command = [bench.peers.get("hey"), "-z", f"{FOREVER_S}s", "-c", connections, "-m", "POST", "-d", BODY.decode()]
    command += ["-T", "application/json", *arguments, url]
    return Process(list(map(str, command)), bench.directory, core=core)
