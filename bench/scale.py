"""What many workers cost the master: CPU and memory of taking, keeping and merging their reports, without a network.

python -m bench.scale [--quick] [--readme]

Every simulated worker sends what a real one sends after `RUN_S` seconds: the messages of its recorder, packed by
msgpack as Locust packs them. Measured is the CPU time of one process that unpacks and takes them in, as the master's
listener does ("core": the share of one that this takes, if they report every 3 s, or as often as they are set to), and
that of one merge, which a checkpoint or the end of a phase needs. MB: what the store keeps.
"""

import argparse
import resource
import sys
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np

from asyncload_lib.results.merge import Store
from asyncload_lib.results.recorder import Recorder
from asyncload_lib.run.members import REPORT_EARLY, report_interval_s
from bench.section import write

RUN_S = 600
LATENCIES = 2000
"""Requests of each endpoint so far; a worker's snapshot grows with the spread of latencies, not with their number."""
VARIANTS = 8
"""How many different workers are made up. Each stands for many, but the messages of every one are unpacked."""
ROUNDS = 3
"""Reports of each worker that are timed, after its first."""


def recorded(seed: int, endpoints: int) -> Recorder:
    """Return the recorder of a worker in the middle of a run."""
    random = np.random.default_rng(seed)
    now_ns = [0]
    recorder = Recorder("run", clock_ns=lambda: now_ns[0])
    recorder.begin("run", 50)
    latencies_ms = random.lognormal(np.log(80), 0.5, size=(endpoints, LATENCIES))
    for number in range(LATENCIES):
        now_ns[0] = int(number / LATENCIES * RUN_S * 1e9)
        recorder.tick(now_ns[0])
        for endpoint in range(endpoints):
            exception = ValueError("refused") if number % 100 == 0 else None
            recorder.add("GET", f"/api/{endpoint}", latencies_ms[endpoint, number], exception)
        recorder.add_started(endpoints)
    return recorder


def reports(endpoints: int) -> list[list[list[bytes]]]:
    """Return for each variant the packed messages of its successive reports: the first, and those that follow."""
    found = []
    for seed in range(VARIANTS):
        recorder = recorded(seed, endpoints)
        rounds = []
        for turn in range(1 + ROUNDS):
            recorder.add_started(endpoints)
            for endpoint in range(endpoints):
                recorder.add("GET", f"/api/{endpoint}", 80.0, None)
            parts = recorder.snapshot_parts(changes_only=turn > 0)
            rounds.append([msgpack.packb(["asyncload_part", part, "id"]) for part in parts])
        found.append(rounds)
    return found


def measure(workers: int, endpoints: int, messages: list[list[list[bytes]]]) -> dict[str, Any]:
    """Return the cost of taking one report of every worker in, of one merge, and of keeping all."""
    tracemalloc.start()
    store = Store("run")
    for number in range(workers):
        take(store, number, messages[number % VARIANTS][0])
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    begun_s = time.process_time()
    for turn in range(1, ROUNDS + 1):
        for number in range(workers):
            take(store, number, messages[number % VARIANTS][turn])
    taken_s = (time.process_time() - begun_s) / ROUNDS
    begun_s = time.process_time()
    merged = store.merged()
    store.workers()
    merged_s = time.process_time() - begun_s
    # Without the rounds after the first: every worker's newest report counts, once.
    assert merged["run"].ok_count + merged["run"].failed_count == workers * endpoints * (LATENCIES + 1 + ROUNDS)
    steady = [sum(map(len, rounds[-1])) for rounds in messages]
    first = [len(message) for rounds in messages for turn in rounds for message in turn]
    return {
        "taken_s": taken_s,
        "merged_s": merged_s,
        "kept_mb": kept_bytes / 1e6,
        "report_kb": sum(steady) / len(steady) / 1e3,
        "largest_kb": max(first) / 1e3,
    }


def take(store: Store, number: int, report: list[bytes]) -> None:
    """Do what the master does with one report."""
    for message in report:
        _, part, _ = msgpack.unpackb(message, strict_map_key=False)
        if not store.accept(f"worker{number}", part):
            raise AssertionError(store.rejected)


def rows(quick: bool) -> Iterator[tuple[int, int]]:
    yield from ((100, 20), (1000, 20)) if quick else ((10, 20), (100, 20), (300, 20), (1000, 20), (1000, 5), (300, 100))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rows only")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    options = parser.parse_args()
    heads = ["workers", "endpoints", "report KB", "largest KB", "CPU s for one report of each", "core, every 3 s"]
    heads += ["core, as set", "s to merge all", "MB kept"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    known: dict[int, list[list[list[bytes]]]] = {}
    for workers, endpoints in rows(options.quick):
        print(f"{workers} workers, {endpoints} endpoints ...", file=sys.stderr, flush=True)
        if endpoints not in known:
            known[endpoints] = reports(endpoints)
        row = measure(workers, endpoints, known[endpoints])
        lines.append(
            f"| {workers} | {endpoints} | {row['report_kb']:.1f} | {row['largest_kb']:.1f} | {row['taken_s']:.3f} "
            f"| {row['taken_s'] / 3:.1%} | {row['taken_s'] / (REPORT_EARLY * report_interval_s(workers)):.1%} "
            f"| {row['merged_s']:.2f} | {row['kept_mb']:.0f} |"
        )
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    lines += ["", f"Peak memory of the process, with the workers' messages in it: {peak_mb:.0f} MB."]
    text = "\n".join(lines)
    print(text)
    if options.readme:
        write("scale", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
