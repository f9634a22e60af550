"""Inject blocking faults into a real target under load, and compare what the probe says with what was done.

    python bench/loop_faults.py [--quick] [--loop asyncio|uvloop] [--busy 600] [--saturated 120]

Prints Markdown tables and writes bench/results/loop_faults.json. A fault is found when the probe charges a stall to the
expected cause; its line is right when the culprit is the line that carries the fault's mark.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from loop_peers import Client, feed_fifo, slow_getaddrinfo, slow_servers, target

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from asyncload_lib import LoopMonitor  # noqa: E402

FAULTS: list[tuple[str, str, float, str]] = [
    ("time.sleep 5 ms (under the limit: no stall)", "sleep", 0.005, "none"),
    ("time.sleep 15 ms", "sleep", 0.015, "loop"),
    ("time.sleep 50 ms", "sleep", 0.050, "loop"),
    ("time.sleep 300 ms", "sleep", 0.300, "loop"),
    ("sync Redis call, server answers after 40 ms", "redis", 0, "loop"),
    ("sync HTTP call, server answers after 40 ms", "http", 0, "loop"),
    ("getaddrinfo of a slow name, 40 ms", "getaddrinfo", 0, "loop"),
    ("CPU loop, 20 ms", "cpu", 0.020, "loop"),
    ("json.loads of 50 MB", "json", 0, "loop"),
    ("regular expression that backtracks", "regex", 0, "loop"),
    ("file read from a FIFO, writer waits 40 ms", "fifo", 0, "loop"),
    ("lock held by another thread for 40 ms", "lock", 0, "loop"),
    ("to_thread misuse: 40 ms before the first await", "to_thread", 0, "loop"),
    ("garbage collection provoked", "gc", 0, "gc"),
    ("GIL held by another thread in a C call", "gil", 0, "gil"),
]
LOAD_PER_S = 200
SETTLE_S = 0.06


def marked_lines() -> dict[str, int]:
    lines = (HERE / "loop_target.py").read_text().splitlines()
    return {line.split("# fault: ")[1]: number for number, line in enumerate(lines, 1) if "# fault: " in line}


async def load(port: int, rate: float) -> None:
    """Ordinary requests at a fixed rate, over four connections, until cancelled."""
    clients = [Client(port) for _ in range(4)]

    async def one(client: Client) -> None:
        due = time.perf_counter()
        while True:
            due = max(due + len(clients) / rate, time.perf_counter() - 1)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await client.call("GET", "/work")

    try:
        await asyncio.gather(*(one(client) for client in clients))
    finally:
        for client in clients:
            client.close()


async def one_fault(client: Client, name: str, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    await asyncio.sleep(random.uniform(0.01, 0.03))
    await client.call("POST", "/asyncload/loop/reset")
    truth = await client.call("GET", f"/fault/{name}?seconds={seconds}")
    await asyncio.sleep(SETTLE_S)
    return truth, await client.call("GET", "/asyncload/loop")


async def fault_row(client: Client, fault: tuple[str, str, float, str], times: int) -> dict[str, Any]:
    title, name, seconds, cause = fault
    times = min(times, 5) if name == "json" else times
    line = marked_lines().get(name)
    row: dict[str, Any] = {"fault": title, "cause": cause, "times": times, "found": 0, "line_right": 0, "within": 0}
    truths, errors, charged = [], [], []
    for _ in range(times):
        truth, report = await one_fault(client, name, seconds)
        truths.append(truth["wall_s"])
        charged += [key for key, value in report["by_cause"].items() if value["stalls"]]
        if cause == "none":
            row["found"] += report["stalls"]
            continue
        found = report["by_cause"][cause]
        if not found["stalls"]:
            continue
        row["found"] += 1
        row["line_right"] += any(c["line"] == line and c["cause"] == cause for c in report["culprits"])
        if cause != "gil":  # the truth is known of the thread, not of the wait that it caused
            errors.append(found["max_stall"] - truth["wall_s"])
            row["within"] += abs(errors[-1]) <= max(0.002, 0.1 * truth["wall_s"])
    row["true_ms"] = statistics.median(truths) * 1e3
    row["worst_error_ms"] = max((abs(error) for error in errors), default=0.0) * 1e3
    row["charged"] = sorted(set(charged))
    return row


async def sweep_row(client: Client, name: str, times: int) -> dict[str, Any]:
    """Stalls of random length from 10 to 20 ms: the share that is found."""
    found = right = 0
    for _ in range(times):
        _, report = await one_fault(client, name, random.uniform(0.010, 0.020))
        found += bool(report["by_cause"]["loop"]["stalls"])
        right += any(c["line"] == marked_lines()[name] for c in report["culprits"] if c["cause"] == "loop")
    return {"fault": f"{name} of 10 to 20 ms, at random", "times": times, "found": found, "line_right": right}


async def overhead(port: int, rounds: int, block_s: float) -> dict[str, float]:
    """Monitor off against on, in turn, in one process that is kept busy: the ratios of throughput and of CPU time."""
    clients = [Client(port) for _ in range(8)]
    control = Client(port)
    seen: dict[str, list[tuple[float, float]]] = {"on": [], "off": []}

    async def hammer(client: Client, end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            await client.call("GET", "/work")
            done += 1
        return done

    for index in range(rounds * 2):
        state = "off" if (index + index // 2) % 2 else "on"
        before = (await control.call("POST", f"/monitor/{state}"))["cpu_s"]
        start = time.perf_counter()
        done = sum(await asyncio.gather(*(hammer(client, start + block_s) for client in clients)))
        elapsed = time.perf_counter() - start
        after = (await control.call("POST", f"/monitor/{state}"))["cpu_s"]
        seen[state].append((done / elapsed, (after - before) / done))
    await control.call("POST", "/monitor/on")
    pairs = list(zip(seen["on"], seen["off"], strict=True))
    return {
        "requests_per_second": statistics.median(rate for rate, _ in seen["off"]),
        "throughput_ratio": statistics.median(on[0] / off[0] for on, off in pairs),
        "cpu_per_request_ratio": statistics.median(on[1] / off[1] for on, off in pairs),
    }


async def false_alarms(port: int, seconds: float, burners: int, cpu_share: float) -> dict[str, Any]:
    """A clean run: the generator's CPU is kept at `cpu_share`, or as many `burners` as there are CPUs run beside it."""
    client, rate = Client(port), 300.0
    processes = [multiprocessing.get_context("spawn").Process(target=burn, daemon=True) for _ in range(burners)]
    for process in processes:
        process.start()
    await client.call("POST", "/asyncload/loop/reset")
    shares = []
    async with LoopMonitor("generator") as monitor:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            task = asyncio.create_task(load(port, rate))
            cpu, wall = time.process_time(), time.perf_counter()
            await asyncio.sleep(min(2.0, seconds / 4))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            share = (time.process_time() - cpu) / (time.perf_counter() - wall)
            shares.append(share)
            if not burners:
                rate *= min(1.5, max(0.7, cpu_share / max(share, 0.01)))
        report = await client.call("GET", "/asyncload/loop")
    client.close()
    for process in processes:
        process.terminate()
        process.join()
    own = monitor.report()
    return {
        "seconds": seconds,
        "burners": burners,
        "generator_cpu": statistics.median(shares),
        "by_cause": {
            name: {cause: value["stalls"] for cause, value in each["by_cause"].items()}
            for name, each in (("target", report), ("generator", own))
        },
        "max_lag_ms": {"target": report["lag"]["max"] * 1e3, "generator": own["lag"]["max"] * 1e3},
        "culprits": [
            [c["file"], c["line"], c["call"]] for c in report["culprits"] + own["culprits"] if c["cause"] == "loop"
        ],
    }


def burn() -> None:
    while True:
        pass


async def run(options: argparse.Namespace) -> dict[str, Any]:
    times = 5 if options.quick else 20
    result: dict[str, Any] = {"loop": options.loop, "python": platform.python_version(), "cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        feed_fifo(directory / "fifo")
        library = slow_getaddrinfo(directory)
        async with slow_servers() as slow:
            peers = {**slow, "fifo": str(directory / "fifo")}
            with target(options.loop, peers, library) as ready:
                client = Client(ready["port"])
                if not options.only or "faults" in options.only:
                    task = asyncio.create_task(load(ready["port"], LOAD_PER_S))
                    faults = [fault for fault in FAULTS if library is not None or fault[1] != "getaddrinfo"]
                    result["faults"] = [await fault_row(client, fault, times) for fault in faults]
                    result["sweep"] = [await sweep_row(client, kind, times * 5) for kind in ("sleep", "cpu")]
                    task.cancel()
                if not options.only or "overhead" in options.only:
                    result["overhead"] = await overhead(ready["port"], 10 if options.quick else 50, 0.5)
                if options.busy:
                    result["busy"] = await false_alarms(ready["port"], options.busy, 0, 0.8)
                if options.saturated:
                    result["saturated"] = await false_alarms(ready["port"], options.saturated, os.cpu_count() or 2, 0)
                client.close()
    return result


def markdown(result: dict[str, Any]) -> str:
    lines = []
    if "faults" in result:
        lines += [
            f"| fault ({result['loop']}) | true length | found | line right | within 2 ms or 10 % | worst error |",
            "|---|---|---|---|---|---|",
        ]
        for row in result["faults"]:
            n = row["times"]
            found = f"{row['found']} of {n}" + ("" if row["cause"] in ("loop", "none") else f" as {row['cause']}")
            checked = row["cause"] == "loop" or row["cause"] == "gc"
            within = f"{row['within']} of {n} | {row['worst_error_ms']:.1f} ms" if checked else "- | -"
            right = "-" if row["cause"] == "none" else f"{row['line_right']} of {n}"
            lines.append(f"| {row['fault']} | {row['true_ms']:.1f} ms | {found} | {right} | {within} |")
        for row in result["sweep"]:
            n = row["times"]
            lines.append(f"| {row['fault']} | | {row['found']} of {n} | {row['line_right']} of {n} | | |")
        lines.append("")
    if "overhead" in result:
        o = result["overhead"]
        lines += [
            f"Overhead, monitor on against off at {o['requests_per_second']:.0f} requests/s:"
            f" throughput x{o['throughput_ratio']:.4f}, CPU per request x{o['cpu_per_request_ratio']:.4f}",
            "",
        ]
    for key, title in (("busy", "clean, generator busy"), ("saturated", "both cores saturated by others")):
        if key in result:
            r = result[key]
            lines.append(
                f"{title}: {r['seconds']:.0f} s at {r['generator_cpu']:.0%} CPU of the generator; stalls by cause:"
                f" {json.dumps(r['by_cause'])}; longest lag in ms: {json.dumps(r['max_lag_ms'])}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="uvloop", help="the target's loop")
    parser.add_argument("--busy", type=float, default=0, metavar="SECONDS", help="clean run at 80 %% CPU (goal: 600)")
    parser.add_argument(
        "--saturated", type=float, default=0, metavar="SECONDS", help="cores taken by others (goal: 120)"
    )
    parser.add_argument("--only", nargs="*", choices=["faults", "overhead", "alarms"], help="parts to run")
    options = parser.parse_args()
    random.seed(1)
    result = asyncio.run(run(options))
    print(markdown(result))
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / f"loop_faults_{options.loop}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
