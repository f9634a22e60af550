"""Memory and time that idle users take, from the start of the test until the last one is in its task."""

import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from locust import events

__all__ = ["watch"]


def watch() -> Callable[[], None]:
    """Return a function for every user to call in its task; the BENCH_USERS-th call writes the figures to BENCH_OUT."""
    process = psutil.Process()
    before: dict[str, float] = {}
    wanted, there = int(os.environ["BENCH_USERS"]), 0

    @events.test_start.add_listener
    def _begin(**_: Any) -> None:
        gc.collect()
        before.update(at=time.perf_counter(), rss=process.memory_info().rss, cpu=sum(process.cpu_times()[:2]))

    def arrived() -> None:
        nonlocal there
        there += 1
        if there < wanted:
            return
        took_s, cpu_s = time.perf_counter() - before["at"], sum(process.cpu_times()[:2]) - before["cpu"]
        gc.collect()
        kib = (process.memory_info().rss - before["rss"]) / wanted / 1024
        path = Path(os.environ["BENCH_OUT"])
        path.with_suffix(".new").write_text(json.dumps({"kib": kib, "spawn_s": took_s, "cpu_s": cpu_s}))
        path.with_suffix(".new").rename(path)

    return arrived
