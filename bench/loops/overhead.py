"""What watching costs a target that is kept busy: the monitor alone, and the whole probe, each against nothing.

Throughput is what counts, but in a virtual machine it wanders far more than by one percent. So the loop's time that the
monitor takes is measured too, and wanders less: the time inside of it, and the CPU of its watchdog.
"""

import asyncio
import math
import random
import statistics
import time
from typing import Any

from bench.loops.peers import Client

__all__ = ["TARGETS", "overhead"]

TARGETS = (("bare", 8), ("fastapi", 8), ("fastapi", 64))
"""What is kept busy, and by how many connections."""
MODES = ("nothing", "monitor", "probe")
BLOCK_S = 0.16
"""How long each count lasts. Short, for a virtual machine's speed wanders; but not shorter than the load before it."""
WARM_S = 0.15
"""Load before each count: a monitor that has just been started takes the CPU time of all threads and measures its pace;
it knows them after two of its windows."""
TIMED_S = 10.0


async def overhead(port: int, connections: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Return for "monitor" and "probe" the ratio of throughput to that of "nothing".

    The three take turns in one process, each round in another order; it is the median of the rounds' ratios, with
    its 95 % interval: (median, low, high). `loop_share`: of the loop's time, what the monitor and its watchdog take.
    """
    clients = [Client(port) for _ in range(connections)]
    control = Client(port)
    seen: dict[str, list[float]] = {mode: [] for mode in MODES}

    async def hammer(client: Client, end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            await client.call("GET", "/work")
            done += 1
        return done

    async def load(seconds: float) -> int:
        end = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(hammer(client, end) for client in clients)))

    for _ in range(rounds):
        for mode in random.sample(MODES, len(MODES)):
            await control.call("POST", f"/mode/{mode}")
            await load(WARM_S)
            start = time.perf_counter()
            done = await load(BLOCK_S)
            seen[mode].append(done / (time.perf_counter() - start))
    taken = {}
    for mode in MODES:
        await control.call("POST", f"/mode/{mode}-timed")
        await load(4 * WARM_S)
        before = await control.call("POST", f"/mode/{mode}-timed")
        await load(TIMED_S)
        after = await control.call("POST", f"/mode/{mode}-timed")
        spent = {key: after[key] - before[key] for key in after}
        taken[mode] = (spent["inside_s"] + spent["cpu_s"] - spent["loop_cpu_s"]) / spent["now_s"]
    await control.call("POST", "/mode/probe")
    for client in (*clients, control):
        client.close()
    nothing = seen["nothing"]
    return {
        mode: {
            "requests_per_second": statistics.median(nothing),
            "throughput_ratio": _median([a / b for a, b in zip(seen[mode], nothing, strict=True)]),
            "loop_share": taken[mode] - taken["nothing"],
        }
        for mode in MODES[1:]
    }


def _median(values: list[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval, from the ranks of a binomial distribution: no shape is assumed."""
    ordered = sorted(values)
    low = max(0, math.floor((len(ordered) - 1.96 * math.sqrt(len(ordered))) / 2))
    return statistics.median(ordered), ordered[low], ordered[-1 - low]
