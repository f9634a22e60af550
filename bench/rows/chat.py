"""A JSON answer of 100 bytes from nginx, 50 users without think time: how many requests a generator can make."""

import json
from collections.abc import Callable

from bench.contest import Bench, window
from bench.generators import BARE, FOREVER_S, bare, hey, locust
from bench.model import Column, Figures, Goal, Table
from bench.processes import GENERATOR_CORE, Process
from bench.targets import BODY, Nginx

__all__ = ["chat", "chat_processes"]

USERS = 50
COLUMNS = [Column("rate", "requests/s"), Column("cpu_us", "us of generator CPU per request")]


def chat(bench: Bench, limit_s: float) -> list[Table]:
    """Compare the generators on one process each."""
    nginx = bench.server("nginx", lambda: Nginx(bench.directory / "nginx"))
    url = f"{nginx.host}/chat"

    def rated(start: Callable[[], Process]) -> Callable[[], Figures]:
        def measure() -> Figures:
            with start() as process:
                return window(process, nginx.served, bench.window_s)

        return measure

    contenders = {
        "asyncload": rated(lambda: locust(bench, "asyncload_chat.py", nginx.host, USERS)),
        "FastHttpUser": rated(lambda: locust(bench, "fast_chat.py", nginx.host, USERS)),
        "HttpUser": rated(lambda: locust(bench, "http_chat.py", nginx.host, USERS)),
        "pyreqwest + uvloop, bare": rated(lambda: bare(bench, "pyreqwest_chat.py", url, USERS)),
        "aiohttp + uvloop, bare": rated(lambda: bare(bench, "aiohttp_chat.py", url, USERS)),
        "asyncio protocol, bare": rated(lambda: bare(bench, "protocol_chat.py", url, USERS)),
        "molotov": rated(lambda: _molotov(bench, url)),
        "hey": rated(lambda: hey(bench, url, USERS)),
        "autocannon": rated(lambda: _autocannon(bench, url)),
        "artillery": rated(lambda: _artillery(bench, nginx.host)),
        "wrk": rated(lambda: _wrk(bench, url)),
    }
    if bench.quick:
        del contenders["artillery"], contenders["molotov"], contenders["autocannon"]
    table = Table(
        "chat",
        "Chat JSON, 50 users, one process",
        COLUMNS,
        "FastHttpUser",
        [
            Goal("asyncload", "rate", ">=", 4, "FastHttpUser"),
            Goal("asyncload", "rate", ">=", 15, "HttpUser"),
            Goal("asyncload", "rate", ">=", 0.7, "hey", moonshot=1),
        ],
        ["POST of 35 bytes; nginx (one worker, own core) answers 100 bytes and counts; each generator has one core"],
    )
    return [bench.interleave(table, contenders, rounds=2 if bench.quick else 5, limit_s=limit_s)]


def chat_processes(bench: Bench, limit_s: float) -> list[Table]:
    """Compare the generators on two processes (hey: two cores), nginx sharing the same cores."""
    nginx = bench.server("nginx", lambda: Nginx(bench.directory / "nginx"))

    def with_two(locustfile: str) -> Callable[[], Figures]:
        def measure() -> Figures:
            with locust(bench, locustfile, nginx.host, USERS, processes=2) as process:
                return window(process, nginx.served, bench.window_s)

        return measure

    def with_hey() -> Figures:
        with hey(bench, f"{nginx.host}/chat", USERS, core=None) as process:
            return window(process, nginx.served, bench.window_s)

    table = Table("chat-2", "Chat JSON, 50 users, `--processes 2`", COLUMNS, "FastHttpUser")
    contenders = {"asyncload": with_two("asyncload_chat.py"), "FastHttpUser": with_two("fast_chat.py"), "hey": with_hey}
    return [bench.interleave(table, contenders, rounds=1 if bench.quick else 3, limit_s=limit_s)]


def _wrk(bench: Bench, url: str) -> Process:
    script = bench.directory / "post.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{BODY.decode()}'\nwrk.headers['content-type'] = 'application/json'\n"
    )
    command = [bench.peers.get("wrk"), "-t1", f"-c{USERS}", f"-d{FOREVER_S}s", "-s", script, url]
    return Process(list(map(str, command)), bench.directory, core=GENERATOR_CORE)


def _autocannon(bench: Bench, url: str) -> Process:
    options = ["-c", USERS, "-d", FOREVER_S, "-m", "POST", "-b", BODY.decode(), "-H", "content-type=application/json"]
    return Process([bench.peers.get("autocannon"), *map(str, options), url], bench.directory, core=GENERATOR_CORE)


def _molotov(bench: Bench, url: str) -> Process:
    command = [bench.peers.get("molotov"), "-w", USERS, "-d", FOREVER_S, "-q", BARE / "molotov_chat.py"]
    return Process(list(map(str, command)), bench.directory, {"BENCH_URL": url}, GENERATOR_CORE)


def _artillery(bench: Bench, host: str) -> Process:
    # Artillery has no closed loop of its own: each of its 50 virtual users repeats the request in a loop.
    script = {
        "config": {"target": host, "phases": [{"duration": 1, "arrivalCount": USERS}], "http": {"pool": USERS}},
        "scenarios": [
            {
                "flow": [
                    {
                        "loop": [{"post": {"url": "/chat", "json": {"message": "hello, how is it going"}}}],
                        "count": 10_000_000,
                    }
                ]
            }
        ],
    }
    path = bench.directory / "artillery.json"
    path.write_text(json.dumps(script))
    environment = {"ARTILLERY_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    return Process([bench.peers.get("artillery"), "run", "--quiet", path], bench.directory, environment, GENERATOR_CORE)
