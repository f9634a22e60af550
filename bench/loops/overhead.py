"""What watching costs a target that is kept busy: the monitor alone, and the whole probe, each against nothing.

Throughput is what counts, but in a virtual machine it varies by far more than one percent. So the time that the monitor
takes from the loop is measured too, which varies less: the time inside the monitor, and the CPU time of its watchdog.
"""

import asyncio
import math
import statistics
import time
from typing import Any

from bench.loops.peers import Client

__all__ = ["TARGETS", "overhead"]

TARGETS = (("bare", 8), ("fastapi", 8), ("fastapi", 64))
"""What is kept busy, and by how many connections."""
SETTLED_S = 0.6
"""Load before the time inside is taken."""
TIMED_S = 10.0


async def overhead(port: int, connections: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Return for "monitor" and "probe" the ratio of throughput to that of "nothing".

    The three take turns in the target, which counts its requests. `throughput_ratio` is the median of the rounds'
    ratios with its 95 % interval: (median, low, high). The load never pauses, and the generator never sleeps, because
    the target would have to pay for waking it. `loop_share`: the share of the loop's time that the monitor and its
    watchdog take.
    """
    clients = [Client(port) for _ in range(connections)]
    control = Client(port)

    async def hammer(client: Client, end: float) -> None:
        while time.perf_counter() < end:
            await client.call("GET", "/work")

    async def load(seconds: float) -> None:
        end = time.perf_counter() + seconds
        await asyncio.gather(*(hammer(client, end) for client in clients))

    async def never_sleep() -> None:
        while True:
            await asyncio.sleep(0)

    awake = asyncio.create_task(never_sleep())
    await control.call("POST", "/mode/turns")
    await load(seconds)
    per_s = await control.call("POST", "/mode/turns")
    taken = {}
    for mode in per_s:
        await control.call("POST", f"/mode/{mode}-timed")
        await load(SETTLED_S)
        before = await control.call("POST", f"/mode/{mode}-timed")
        await load(TIMED_S)
        after = await control.call("POST", f"/mode/{mode}-timed")
        spent = {key: after[key] - before[key] for key in after}
        taken[mode] = (spent["inside_s"] + spent["cpu_s"] - spent["loop_cpu_s"]) / spent["now_s"]
    await control.call("POST", "/mode/probe")
    awake.cancel()
    for client in (*clients, control):
        client.close()
    nothing = per_s["nothing"]
    return {
        mode: {
            "requests_per_second": statistics.median(nothing),
            "throughput_ratio": _median([a / b for a, b in zip(per_s[mode], nothing, strict=False)]),
            "loop_share": taken[mode] - taken["nothing"],
        }
        for mode in per_s
        if mode != "nothing"
    }


def _median(values: list[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval, from the ranks of a binomial distribution: no shape is assumed."""
    ordered = sorted(values)
    low = max(0, math.floor((len(ordered) - 1.96 * math.sqrt(len(ordered))) / 2))
    return statistics.median(ordered), ordered[low], ordered[-1 - low]
