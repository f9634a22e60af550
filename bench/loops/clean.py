"""Runs in which nothing blocks: a stall that is charged to a loop would be a false alarm.

The real `locust` command with its embedded target, for minutes: once with a generator that is kept at 80 % of a core,
once beside processes that take every core.
"""

import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from bench.generators import LOCUST, LOCUSTFILES
from bench.processes import Process

__all__ = ["WATCHED", "clean_run"]

CHAT_USERS = 10
SAMPLE_S = 2.0
END_LIMIT_S = 120.0

WATCHED = 0.95
"""Share of the run for which a loop must have been watched."""


def clean_run(directory: Path, seconds: float, *, busy_users: int, saturated: bool) -> dict[str, Any]:
    """Run `busy_users` (each takes about 1 % of a core) and a few chat users against the demo; return what was seen.

    `saturated`: beside processes that do nothing but take CPU, one for each that there is. Raises ValueError where the
    run has no report.
    """
    out = directory / "reports"
    locust = [str(LOCUST), "-f", str(LOCUSTFILES / "busy.py"), "--headless", "--only-summary"]
    load = ["-u", str(busy_users + CHAT_USERS), "-r", "1000", "-t", f"{seconds:g}s"]
    environment = {"ASYNCLOAD_OUT": str(out), "BENCH_BUSY_USERS": str(busy_users), "BENCH_CHAT_USERS": str(CHAT_USERS)}
    burners = len(os.sched_getaffinity(0)) if saturated else 0
    with contextlib.ExitStack() as beside:
        for _ in range(burners):
            beside.enter_context(Process([sys.executable, "-c", "while True: pass"], directory))
        run = beside.enter_context(Process([*locust, *load], directory, environment))
        shares = cpu_shares(run, seconds)
        run.wait(seconds + END_LIMIT_S)
        complaint = run.complaint()
    try:
        (metric,) = json.loads((out / "latest.json").read_text())["metrics"]
    except OSError:
        raise ValueError(f"the clean run gave no report: {complaint}") from None
    return {
        "seconds": seconds,
        "burners": burners,
        "generator_cpu": statistics.median(shares) if shares else 0.0,
        "requests": metric["total_requests"],
        "loops": [loop for loop in metric["event_loops"] if loop["witness"] == "inside"],
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
