"""Memory of a recorder and the time from a run's end to its report: `report_time.py REQUESTS DIRECTORY`; prints JSON.

50 endpoints, 1 % failures. The report goes the way of a run: parts as a worker sends them, merged as a master does,
judged, written as JSON, HTML, Markdown and JUnit; matplotlib's import is part of it.
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from asyncload_lib.results.files import dump
from asyncload_lib.results.merge import Store
from asyncload_lib.results.model import build_results
from asyncload_lib.results.recorder import Recorder

ENDPOINTS = 50
EARLY = 100_000
BATCH = 500
RATE = 20_000
START_NS = 1_000_000_000

clock_ns = START_NS


def recorded(recorder: Recorder, begin: int, end: int, latencies_ms: list[float]) -> None:
    """Add requests number `begin` to `end`, in batches that come at `RATE` per second of model time."""
    global clock_ns
    error, period = TimeoutError("no answer within 30 s"), len(latencies_ms)
    names = [f"/api/endpoint/{number}" for number in range(ENDPOINTS)]
    for first in range(begin, end, BATCH):
        clock_ns += BATCH * 1_000_000_000 // RATE
        recorder.tick(clock_ns)
        for number in range(first, first + BATCH):
            failed = error if number % 100 == 99 else None
            recorder.add("POST", names[number * 7 % ENDPOINTS], latencies_ms[number % period], failed)


def report(recorder: Recorder, directory: Path) -> None:
    recorder.end()
    store = Store("bench")
    for part in recorder.snapshot_parts():
        store.accept("worker", part)
    from asyncload_lib.run.scenarios import free_metric

    metric = free_metric("run", store.merged(), event_loops=[], watched_from_ns=0)
    document = build_results(_run(), [metric], [], {"valid": True, "reasons": [], "processes": []}, [], verdict="pass")
    dump(document, directory / "results.json")
    from asyncload_lib.report.render import render_all

    dict(render_all(document, directory, "20260101_000000"))


def _run() -> dict[str, Any]:
    return {
        "id": "bench", "kind": "free", "seed": 1, "command": "bench", "started": "2026-01-01T00:00:00Z",
        "ended": "2026-01-01T00:08:20Z", "duration_s": 500.0, "status": "complete", "status_reasons": [],
        "target": {"host": "http://127.0.0.1", "embedded": False, "mode": None}, "settings": {}, "versions": {},
        "host": {"name": "bench", "os": "", "load_average": [0.0, 0.0, 0.0]}, "python": "", "cpu_count": 1,
        "loop": "uvloop", "git_commit": None, "simulated": None,
    }  # fmt: skip


def main(count: int, directory: Path) -> None:
    import locust  # noqa: F401  # a run has it loaded

    import asyncload_lib.run.scenarios  # noqa: F401

    drawn = random.Random(1)
    latencies_ms = [drawn.lognormvariate(2, 1) for _ in range(99_991)]
    recorder = Recorder("bench", clock_ns=lambda: clock_ns)
    recorder.begin("run", 50, START_NS)
    process = psutil.Process()
    recorded(recorder, 0, EARLY, latencies_ms)
    recorder.snapshot()
    early_mb = process.memory_info().rss / 1e6
    begun_s = time.process_time()
    recorded(recorder, EARLY, count, latencies_ms)
    add_us = (time.process_time() - begun_s) / (count - EARLY) * 1e6
    recorder.snapshot()
    growth_mb = process.memory_info().rss / 1e6 - early_mb
    drawing_before = "matplotlib" in sys.modules
    begun_s = time.perf_counter()
    report(recorder, directory)
    took_s = time.perf_counter() - begun_s
    written = json.loads((directory / "results.json").read_text())["metrics"][0]["total_requests"]
    figures = {"add_us": add_us, "growth_mb": growth_mb, "report_s": took_s, "early_matplotlib": drawing_before}
    print(json.dumps({**figures, "requests": written}))


main(int(sys.argv[1]), Path(sys.argv[2]))
