"""Runs in which nothing blocks: a stall that is charged to a loop would be a false alarm.

The real `locust` command with its embedded target, for minutes: once with a generator that is kept at 80 % of a core,
once beside processes that take every core.
"""

import json
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any

import psutil

from bench.generators import LOCUST, LOCUSTFILES
from bench.processes import Process

__all__ = ["clean_run"]

CHAT_USERS = 10
SAMPLE_S = 2.0
END_LIMIT_S = 120.0


def clean_run(directory: Path, seconds: float, *, busy_users: int, burners: int) -> dict[str, Any]:
    """Run `busy_users` (each takes about 1 % of a core) and a few chat users against the demo; return what was seen.

    `burners`: processes that do nothing but take CPU meanwhile.
    """
    out = directory / "reports"
    locust = [str(LOCUST), "-f", str(LOCUSTFILES / "busy.py"), "--headless", "--only-summary"]
    load = ["-u", str(busy_users + CHAT_USERS), "-r", "1000", "-t", f"{seconds:g}s"]
    environment = {"ASYNCLOAD_OUT": str(out), "BENCH_BUSY_USERS": str(busy_users), "BENCH_CHAT_USERS": str(CHAT_USERS)}
    context = multiprocessing.get_context("spawn")
    beside = [context.Process(target=burn, args=(seconds + END_LIMIT_S,), daemon=True) for _ in range(burners)]
    for process in beside:
        process.start()
    try:
        with Process([*locust, *load], directory, environment) as run:
            shares = cpu_shares(run, seconds)
            run.wait(seconds + END_LIMIT_S)
            complaint = run.complaint()
    finally:
        for process in beside:
            process.terminate()
            process.join()
    try:
        (metric,) = json.loads((out / "latest.json").read_text())["metrics"]
    except OSError:
        raise ValueError(f"the clean run gave no report: {complaint}") from None
    loops = [loop for loop in metric["event_loops"] if loop["witness"] == "inside"]
    return {
        "seconds": seconds,
        "burners": burners,
        "generator_cpu": statistics.median(shares) if shares else 0.0,
        "requests": metric["total_requests"],
        "loops": [
            {
                "name": loop["name"],
                "watched_s": loop["watched_s"],
                "lag_max_ms": loop["lag"]["max"] * 1e3,
                "by_cause": {cause: value["stalls"] for cause, value in loop["by_cause"].items()},
                "culprits": [f"{c['file']}:{c['line']} {c['call']}" for c in loop["culprits"] if c["cause"] == "loop"],
            }
            for loop in loops
        ],
    }


def cpu_shares(run: Process, seconds: float) -> list[float]:
    """Return the generator's own share of a core, window by window, while its users run."""
    process, shares = psutil.Process(run.pid), []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s and run.running:
        before, begun = sum(process.cpu_times()[:2]), time.monotonic()
        time.sleep(SAMPLE_S)
        try:
            shares.append((sum(process.cpu_times()[:2]) - before) / (time.monotonic() - begun))
        except psutil.NoSuchProcess:
            break
    return shares[1:]


def burn(seconds: float) -> None:
    """Take a core."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        pass
