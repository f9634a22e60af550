"""Faults of known length in a target under load: whether the probe finds them, names the line and knows the length."""

import asyncio
import contextlib
import random
import statistics
import time
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.loops.peers import Client

__all__ = ["BURST", "rows", "under_load"]

TARGET = Path(__file__).with_name("target.py")
SETTLE_S = 0.06
"""After a fault, until the probe's findings are read."""
BURST = 10
"""Calls in a fault that blocks again and again: "burst" and "parses" in one turn of the loop, "chain" in turn after
turn."""


class Fault(NamedTuple):
    """One way to hold up a loop; `cause` is what the probe must charge it to, "none" where it is no stall."""

    title: str
    name: str
    seconds: float
    cause: str


FAULTS = [
    Fault("`time.sleep` of 5 ms: under the limit, no stall", "sleep", 0.005, "none"),
    Fault("`time.sleep` of 15 ms", "sleep", 0.015, "loop"),
    Fault("`time.sleep` of 50 ms", "sleep", 0.050, "loop"),
    Fault("`time.sleep` of 300 ms", "sleep", 0.300, "loop"),
    Fault("sync Redis call, the server answers after 40 ms", "redis", 0, "loop"),
    Fault("sync HTTP call, the server answers after 40 ms", "http", 0, "loop"),
    Fault("`getaddrinfo` of a slow name, 40 ms", "getaddrinfo", 0, "loop"),
    Fault("CPU loop of 20 ms", "cpu", 0.020, "loop"),
    Fault("`json.loads` of 50 MB", "json", 0, "loop"),
    Fault("regular expression that backtracks", "regex", 0, "loop"),
    Fault("file read from a FIFO, the writer waits 40 ms", "fifo", 0, "loop"),
    Fault("lock held by another thread for 40 ms", "lock", 0, "loop"),
    Fault("`to_thread` misused: 40 ms before the first await", "to_thread", 0, "loop"),
    Fault("garbage collection, provoked", "gc", 0, "gc"),
    Fault("GIL held by another thread in a C call", "gil", 0, "gil"),
]


BURSTS = [
    Fault(f"{BURST} times `time.sleep` of 30 ms, one behind the other", "burst", 0.030 * BURST, "loop"),
    Fault(f"{BURST} times `json.loads` of 4 MB, which collects garbage, one behind the other", "parses", 0, "loop"),
    Fault(f"{BURST} regular expressions, each as soon as the loop has come around", "chain", 0, "loop"),
]


@cache
def marked_lines() -> dict[str, int]:
    """Return the line of the target that carries each fault's mark."""
    lines = TARGET.read_text().splitlines()
    return {line.split("# fault: ")[1]: number for number, line in enumerate(lines, 1) if "# fault: " in line}


@contextlib.asynccontextmanager
async def under_load(port: int, rate: float) -> AsyncIterator[asyncio.Future[Any]]:
    """Send ordinary requests at a fixed rate (1/s) over four connections meanwhile; raises what ended them early.

    A rate that the target cannot keep up with saturates it: each connection has one request at a time.
    """
    clients = [Client(port) for _ in range(4)]

    async def one(client: Client) -> None:
        due = time.perf_counter()
        while True:
            due = max(due + len(clients) / rate, time.perf_counter() - 1)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await client.call("GET", "/work")

    load = asyncio.gather(*map(one, clients))
    try:
        yield load
        if load.done():
            load.result()  # it raises: the load goes on until it is cancelled
    finally:
        load.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await load
        for client in clients:
            client.close()


async def one_fault(client: Client, name: str, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what was truly done, and what the probe says of it."""
    await client.call("POST", "/asyncload/loop/reset")
    await asyncio.sleep(random.uniform(0.02, 0.05))  # the reset takes a beat: no fault may come a fixed time behind it
    truth = await client.call("GET", f"/fault/{name}?seconds={seconds}")
    await asyncio.sleep(SETTLE_S)
    return truth, await client.call("GET", "/asyncload/loop")


def blame(report: dict[str, Any], fault: Fault) -> tuple[int, int]:
    """Return how many stalls a report charges to the loop or to the fault's cause, and how many to the fault's line."""
    place = (TARGET.name, marked_lines().get(fault.name))
    charged = sum(report["by_cause"][cause]["stalls"] for cause in {"loop", fault.cause} - {"none"})
    right = sum(
        culprit["count"]
        for culprit in report["culprits"]
        if culprit["cause"] == fault.cause and (Path(culprit["file"]).name, culprit["line"]) == place
    )
    return charged, right


async def fault_row(client: Client, fault: Fault, times: int) -> dict[str, Any]:
    """Do one fault `times` times; it is found where there is a stall of its cause, be its line right or not.

    What is charged to the loop or to that cause `beside` it is a false alarm.
    """
    times = min(times, 5) if fault.name == "json" else times
    row: dict[str, Any] = {"fault": fault.title, "cause": fault.cause, "times": times}
    row |= {"found": 0, "line_right": 0, "beside": 0, "within": 0}
    truths, errors = [], []
    for _ in range(times):
        truth, report = await one_fault(client, fault.name, fault.seconds)
        truths.append(truth["wall_s"])
        charged, right = blame(report, fault)
        if fault.cause == "none":
            row["found"] += report["stalls"]
            continue
        found = report["by_cause"][fault.cause]
        row["found"] += found["stalls"] > 0
        row["line_right"] += right > 0
        row["beside"] += charged - (found["stalls"] > 0)
        if found["stalls"] and fault.cause != "gil":  # there it is known how long the thread ran, not the wait
            errors.append(found["max_stall"] - truth["wall_s"])
            row["within"] += abs(errors[-1]) <= max(0.002, 0.1 * truth["wall_s"])
    row["true_ms"] = statistics.median(truths) * 1e3
    row["worst_error_ms"] = max((abs(error) for error in errors), default=0.0) * 1e3
    return row


async def burst_row(client: Client, fault: Fault, times: int) -> dict[str, Any]:
    """Do bursts of `BURST` calls that each block: each is a stall of its own."""
    row: dict[str, Any] = {"fault": fault.title, "cause": fault.cause}
    row |= {"times": times * BURST, "found": 0, "line_right": 0, "beside": 0, "within": 0}
    truths: list[float] = []
    errors: list[float] = []
    for _ in range(times):
        truth, report = await one_fault(client, fault.name, fault.seconds)
        each_s = truth["each_s"]
        truths += each_s
        lengths = [stall["length"] for stall in report["stall_times"] if stall["cause"] == "loop"]
        found = min(len(lengths), len(each_s))
        row["found"] += found
        row["line_right"] += min(blame(report, fault)[1], len(each_s))
        row["beside"] += len(lengths) - found
        if len(lengths) != len(each_s):  # it is not known which one is missing: compare with the most similar
            each_s = [min(each_s, key=lambda true_s: abs(true_s - length)) for length in lengths[:found]]
        for length, true_s in zip(lengths, each_s, strict=False):
            errors.append(abs(length - true_s))
            row["within"] += errors[-1] <= max(0.002, 0.1 * true_s)
    row["true_ms"] = statistics.median(truths) * 1e3
    row["worst_error_ms"] = max(errors, default=0.0) * 1e3
    return row


async def sweep_row(client: Client, name: str, times: int) -> dict[str, Any]:
    """Do stalls of random length until `times` of them truly took 10 to 20 ms, and count those that are found."""
    what = {"sleep": "`time.sleep`", "cpu": "CPU loop"}[name]
    row: dict[str, Any] = {"fault": f"{what} of 10 to 20 ms, at random", "cause": "loop"}
    row |= {"times": 0, "found": 0, "line_right": 0}
    while row["times"] < times:
        fault = Fault("", name, random.uniform(0.009, 0.020), "loop")
        truth, report = await one_fault(client, name, fault.seconds)
        if 0.010 <= truth["wall_s"] < 0.020:
            row["times"] += 1
            row["found"] += report["by_cause"]["loop"]["stalls"] > 0
            row["line_right"] += blame(report, fault)[1] > 0
    return row


async def rows(client: Client, times: int, *, has_slow_names: bool) -> list[dict[str, Any]]:
    """Do all of it: each fault and burst `times` times, the lengths at random ten times as often.

    `has_slow_names`: whether the target has a `getaddrinfo` that takes its time.
    """
    return [
        *[
            await fault_row(client, fault, times)
            if has_slow_names or fault.name != "getaddrinfo"
            else {"fault": fault.title, "not_measured": "it takes a C compiler (gcc)"}
            for fault in FAULTS
        ],
        *[await burst_row(client, burst, times) for burst in BURSTS],
        *[await sweep_row(client, name, times * 10) for name in ("sleep", "cpu")],
    ]
