"""Inject blocking faults into a real target under load, and compare what the probe says with what was done.

    python -m bench.loops [--quick] [--only faults overhead clean] [--loop asyncio|uvloop] [--readme]

Prints Markdown tables and keeps bench/results/loops.json. A full run takes 35 minutes, 12 of them clean runs in which
nothing blocks. `--readme` writes the tables into README.md.
"""

import argparse
import asyncio
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.loops.clean import clean_run
from bench.loops.faults import BURSTS, FAULTS, burst_row, fault_row, load, sweep_row
from bench.loops.overhead import TARGETS, overhead
from bench.loops.peers import Client, feed_fifo, slow_getaddrinfo, slow_servers, target
from bench.loops.table import markdown
from bench.machine import describe
from bench.peers import Peers
from bench.processes import ROOT
from bench.section import write

LOAD_PER_S = 200
PARTS = ("faults", "overhead", "clean")


async def against_target(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Measure what needs the target with the faults."""
    result: dict[str, Any] = {}
    feed_fifo(directory / "fifo")
    library = slow_getaddrinfo(directory)
    async with slow_servers() as slow:
        with target(options.loop, {**slow, "fifo": str(directory / "fifo")}, library) as ready:
            client = Client(ready["port"])
            if "faults" in options.only:
                times = 5 if options.quick else 20
                task = asyncio.create_task(load(ready["port"], LOAD_PER_S))
                faults = [fault for fault in FAULTS if library is not None or fault.name != "getaddrinfo"]
                result["faults"] = [await fault_row(client, fault, times) for fault in faults]
                result["faults"] += [await burst_row(client, burst, times) for burst in BURSTS]
                result["sweep"] = [await sweep_row(client, kind, times * 10) for kind in ("sleep", "cpu")]
                task.cancel()
            client.close()
        if "overhead" in options.only:
            result["overhead"] = []
            for kind, connections in TARGETS:
                with target(options.loop, slow, None, kind) as ready:
                    modes = await overhead(ready["port"], connections, 45 if options.quick else 240)
                result["overhead"].append({"target": kind, "connections": connections, "modes": modes})
    return result


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
    random.seed(1)
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
                clean_run(directory / "busy", busy_s, busy_users=92, burners=0),
                clean_run(directory / "saturated", saturated_s, busy_users=0, burners=2),
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
