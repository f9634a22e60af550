"""Inject blocking faults into a real target under load, and compare what the probe says with what was done.

    python -m bench.loops [--quick] [--only faults overhead clean] [--loop asyncio|uvloop] [--readme]

Prints Markdown tables and keeps bench/results/loops.json. A full run takes 45 minutes, 12 of them clean runs in which
nothing blocks. `--readme` writes the tables into README.md, if all of them were measured.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench.loops.clean import clean_run
from bench.loops.faults import rows, under_load
from bench.loops.overhead import LOADS, overhead
from bench.loops.peers import Client, feed_fifo, slow_getaddrinfo, slow_servers, target
from bench.loops.table import markdown
from bench.machine import describe
from bench.peers import Peers
from bench.processes import GENERATOR_CORE, ROOT, TARGET_CORE, leave
from bench.section import write

PARTS = ("faults", "overhead", "clean")
SATURATING = 1e6
RATES = {"200 requests/s": 200.0, "saturated": SATURATING}
"""Load beside the faults: requests per second that are asked for, and more than any target answers."""
SETTLE_S = 2.0


async def against_target(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Measure what needs the target with the faults."""
    result: dict[str, Any] = {}
    async with slow_servers() as slow:
        if "faults" in options.only:
            feed_fifo(directory / "fifo")
            library = slow_getaddrinfo(directory)
            with target(options.loop, {**slow, "fifo": str(directory / "fifo")}, library) as ready:
                times = 5 if options.quick else 20
                result["faults"] = [
                    await with_faults(ready, title, rate, times, has_slow_names=library is not None)
                    for title, rate in RATES.items()
                ]
        if "overhead" in options.only:
            targets, seconds = (2, 20) if options.quick else (6, 40)
            with on_core(GENERATOR_CORE):  # else threads of both push each other aside, as they happen to lie
                result["overhead"] = [
                    await overhead(
                        load, partial(target, options.loop, slow, None, load.kind, TARGET_CORE), targets, seconds
                    )
                    for load in LOADS
                ]
    return result


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Have this thread, and what it starts meanwhile, use one CPU only; with None, any."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def with_faults(
    ready: dict[str, int], title: str, rate: float, times: int, *, has_slow_names: bool
) -> dict[str, Any]:
    """Do all faults under one load; return its title, what share of a core the target has used by then, and rows."""
    process, client = psutil.Process(ready["pid"]), Client(ready["port"])
    async with under_load(ready["port"], rate):
        process.cpu_percent()
        await asyncio.sleep(SETTLE_S)
        busy = process.cpu_percent() / 100
        measured = await rows(client, times, has_slow_names=has_slow_names)
    client.close()
    return {"title": title, "saturates": rate >= SATURATING, "busy": busy, "rows": measured}


def steal_share(before: Any, after: Any) -> float:
    """Return the share that the hypervisor gave to others of the CPU time this machine had work for; 0 if unknown."""
    idle = ("idle", "iowait", "guest", "guest_nice")  # the time of guests is part of "user" and "nice"
    used = {name: float(getattr(after, name) - getattr(before, name)) for name in after._fields if name not in idle}
    return used.get("steal", 0.0) / max(sum(used.values()), 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, clean runs of 20 s")
    parser.add_argument(
        "--loop", choices=["asyncio", "uvloop"], default="uvloop", help="loop of the target with faults"
    )
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    options = parser.parse_args()
    if options.readme and (options.quick or set(options.only) != set(PARTS)):
        parser.error("--readme replaces all tables: it needs all parts, and no --quick")
    random.seed(1)
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)
    run: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "quick": options.quick,
        "loop": options.loop,
        "machine": describe(Peers()),
    }
    before = psutil.cpu_times()
    with tempfile.TemporaryDirectory(prefix="asyncload-bench-") as name:
        directory = Path(name)
        run |= asyncio.run(against_target(options, directory))
        if "clean" in options.only:
            busy_s, saturated_s = (20, 20) if options.quick else (600, 120)
            run["clean"] = [
                clean_run(directory / "busy", busy_s, busy_users=92, saturated=False),
                clean_run(directory / "saturated", saturated_s, busy_users=0, saturated=True),
            ]
    run["steal"] = steal_share(before, psutil.cpu_times())
    text = markdown(run)
    print(text)
    results = ROOT / "bench" / "results"
    results.mkdir(exist_ok=True)
    (results / "loops.json").write_text(json.dumps(run, indent=1) + "\n")
    if options.readme:
        write("loops", text)


if __name__ == "__main__":
    main()
