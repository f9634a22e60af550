"""What a generator reports against what the target's own ledger says, at 10, 50 and 80 % of capacity.

The target answers after 2 ms (80 %), 5 ms (19 %) or 25 ms (1 %), so that p50, p99 and maximum differ, and notes for
each request the time from its last byte in to its answer out. What a generator reports beyond that is the way there and
back, and the generator's own error.
"""

import json
import re
import shutil
from collections.abc import Callable
from functools import partial

from bench.contest import Bench, window
from bench.generators import locust
from bench.model import Column, Figures, Goal, Table
from bench.processes import GENERATOR_CORE, Process
from bench.targets import BODY, LedgerServer

__all__ = ["fidelity"]

USERS = 100
COLUMNS = [
    Column("p50", "ms, error of p50"),
    Column("p99", "ms, error of p99"),
    Column("max", "ms, error of the maximum"),
    Column("missing", "requests served but not reported", 6),
    Column("rate", "requests/s"),
]
Reported = dict[str, float]
"""What a generator says: p50, p99 and max in seconds, and the number of `requests`."""


def fidelity(bench: Bench, limit_s: float) -> list[Table]:
    """Compare reports with the ledger at shares of FastHttpUser's capacity, and asyncload at shares of its own too.

    A round takes half a minute, and `missing` is judged on each: three of them at three shares want `limit_s` of 330.
    """
    server = bench.server("delays", lambda: LedgerServer(bench.directory / "delays", delays=True))
    fast = _capacity(bench, server, "fast_paced.py")
    own = _capacity(bench, server, "asyncload_paced.py")
    seconds = 2.0 if bench.quick else 4.0
    tables = []
    shares = (50,) if bench.quick else (10, 50, 80)
    for share in shares:
        rate, own_rate = fast * share / 100, own * share / 100
        contenders = {
            "asyncload": _checked(server, partial(_asyncload, bench, server, rate, seconds)),
            "FastHttpUser": _checked(server, partial(_fast, bench, server, rate, seconds)),
            "hey": _checked(server, partial(_hey, bench, server, rate, seconds)),
            "wrk": _checked(server, partial(_wrk, bench, server, rate, seconds)),
            f"asyncload at {share} % of its own": _checked(
                server, partial(_asyncload, bench, server, own_rate, seconds)
            ),
        }
        table = Table(
            f"fidelity-{share}",
            f"Error of the report at {share} % of FastHttpUser's capacity ({rate:,.0f} requests/s)",
            COLUMNS,
            goals=[
                Goal("asyncload", "p50", "<=", 1, "FastHttpUser"),
                Goal("asyncload", "p99", "<=", 1, "FastHttpUser"),
                Goal("asyncload", "missing", "==", 0),
                Goal(f"asyncload at {share} % of its own", "missing", "==", 0),
            ],
        )
        tables.append(bench.interleave(table, contenders, rounds=1 if bench.quick else 3, limit_s=limit_s / 3.5))
    full = Table(
        "ledger",
        "Ledger at full speed: 100 users without pauses",
        [Column("missing", "requests served but not reported", 6), Column("rate", "requests/s")],
        goals=[Goal("asyncload", "missing", "==", 0)],
    )
    at_full_speed = _checked(server, lambda: _asyncload(bench, server, 1e9, seconds))
    tables.append(bench.interleave(full, {"asyncload": at_full_speed}, rounds=1, limit_s=limit_s / 10))
    tables[-2].notes.append("hey reports tenths of a millisecond, Locust whole ones; wrk keeps no rate: it pauses")
    return tables


def _capacity(bench: Bench, server: LedgerServer, file: str) -> float:
    """Return how many requests per second the generator makes of this target with as many users, without pauses."""
    with locust(bench, file, server.host, USERS, environment={"BENCH_RATE": "1e9"}) as process:
        return window(process, server.served, bench.window_s)["rate"]


def _checked(server: LedgerServer, run: Callable[[], Reported]) -> Callable[[], Figures]:
    def measure() -> Figures:
        server.reset()
        reported = run()
        truth = server.figures()
        errors = {key: abs(reported[key] - truth[key]) * 1e3 for key in ("p50", "p99", "max")}
        return {**errors, "missing": truth["requests"] - reported["requests"], "rate": reported["rate"]}

    return measure


def _ended(process: Process, seconds: float) -> str:
    with process:
        process.wait(seconds + 60)
        return process.output


def _asyncload(bench: Bench, server: LedgerServer, rate: float, seconds: float) -> Reported:
    out = bench.directory / "fidelity"
    shutil.rmtree(out, ignore_errors=True)
    environment = {"BENCH_RATE": f"{rate / USERS}", "ASYNCLOAD_OUT": str(out)}
    _ended(
        locust(bench, "asyncload_paced.py", server.host, USERS, run_time_s=seconds, environment=environment), seconds
    )
    metric = json.loads((out / "latest.json").read_text())["metrics"][0]
    return {
        "p50": metric["p50_latency"],
        "p99": metric["p99_latency"],
        "max": metric["max_response_time"],
        "requests": metric["total_requests"],
        "rate": metric["requests_per_second"],
    }


def _fast(bench: Bench, server: LedgerServer, rate: float, seconds: float) -> Reported:
    """Read the JSON that Locust writes when its last user has ended; its CSV files lack up to the last second."""
    out = bench.directory / "fast.json"
    out.unlink(missing_ok=True)
    environment = {"BENCH_RATE": f"{rate / USERS}"}
    arguments = ("--json-file", str(out.with_suffix("")), "--stop-timeout", "5")
    files = ("fast_paced.py", server.host, USERS)
    _ended(locust(bench, *files, run_time_s=seconds, arguments=arguments, environment=environment), seconds)
    entry = json.loads(out.read_text())[0]
    counts = sorted((int(ms), count) for ms, count in entry["response_times"].items())
    times_ms = [ms for ms, count in counts for _ in range(count)]
    return {
        "p50": times_ms[len(times_ms) // 2] / 1e3,  # the ranks that Locust takes
        "p99": times_ms[len(times_ms) * 99 // 100] / 1e3,
        "max": entry["max_response_time"] / 1e3,
        "requests": entry["num_requests"],
        "rate": entry["num_requests"] / (entry["last_request_timestamp"] - entry["start_time"]),
    }


def _hey(bench: Bench, server: LedgerServer, rate: float, seconds: float) -> Reported:
    options = ["-z", f"{seconds:g}s", "-c", USERS, "-q", f"{rate / USERS:g}", "-m", "POST", "-d", BODY.decode()]
    command = [bench.peers.get("hey"), *options, "-T", "application/json", f"{server.host}/chat"]
    text = _ended(Process(list(map(str, command)), bench.directory, core=GENERATOR_CORE), seconds)
    return {
        "p50": _found(r"50% in ([\d.]+) secs", text),
        "p99": _found(r"99% in ([\d.]+) secs", text),
        "max": _found(r"Slowest:\s+([\d.]+) secs", text),
        "requests": sum(map(int, re.findall(r"\[200\]\s+(\d+) responses", text))),
        "rate": _found(r"Requests/sec:\s+([\d.]+)", text),
    }


def _wrk(bench: Bench, server: LedgerServer, rate: float, seconds: float) -> Reported:
    script = bench.directory / "paced.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{BODY.decode()}'\nwrk.headers['content-type'] = 'application/json'\n"
        f"function delay() return {max(round(USERS / rate * 1e3 - 2.8), 0)} end\n"
        "function done(summary, latency)\n"
        "  print(string.format('DONE %d %d %d %d %d', latency:percentile(50), latency:percentile(99), latency.max,\n"
        "    summary.requests, summary.duration))\nend\n"
    )
    command = [bench.peers.get("wrk"), "-t1", f"-c{USERS}", f"-d{seconds:g}s", "-s", script, f"{server.host}/chat"]
    text = _ended(Process(list(map(str, command)), bench.directory, core=GENERATOR_CORE), seconds)
    p50, p99, top, requests, duration_us = map(int, text.rpartition("DONE ")[2].split())
    rate = requests / duration_us * 1e6
    return {"p50": p50 / 1e6, "p99": p99 / 1e6, "max": top / 1e6, "requests": requests, "rate": rate}


def _found(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"no {pattern!r} in what hey said: {text[-200:]!r}")
    return float(found[1])
