"""What watching costs a target that is kept busy: the monitor alone, and the whole probe, each against nothing.

Throughput is what counts. CPU time for each request, of all the target's threads, varies less in a virtual machine.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from bench.loops.peers import Client

__all__ = ["LOADS", "Load", "overhead"]


class Load(NamedTuple):
    """What is kept busy ("bare" or "fastapi"), and by how many connections."""

    kind: str
    connections: int


LOADS = (Load("bare", 8), Load("fastapi", 8), Load("fastapi", 64))

BUSY = 0.9
"""Share of its time for which the loop must have the CPU; where it has less, the generator limits, or the machine."""

Target = Callable[[], AbstractContextManager[dict[str, int]]]


async def overhead(load: Load, target: Target, targets: int, seconds: float) -> dict[str, Any]:
    """Return what "monitor" and "probe" cost, over several targets of `seconds` each: a process may be fast by luck.

    In each target, monitor, probe and nothing take turns; a round's ratio is that to its turn of nothing, and a
    target's ratio is the median of its rounds. Of throughput and of CPU per request the median of the targets' ratios
    is returned, the least and the most; further requests_per_second and busy (the least share of the loop's time).
    """
    seen = []
    for _ in range(targets):
        with target() as ready:
            seen.append(await turns(ready["port"], load.connections, seconds))
    per_s, _ = zip(*(turn for one in seen for turn in one["counted"]["nothing"]), strict=True)
    return {
        **load._asdict(),
        "requests_per_second": statistics.median(per_s),
        "busy": min(one["busy"] for one in seen),
        "modes": {
            mode: {
                "throughput_ratio": _over_targets(seen, mode, 0),
                "cpu_ratio": _over_targets(seen, mode, 1),
            }
            for mode in ("monitor", "probe")
        },
    }


async def turns(port: int, connections: int, seconds: float) -> dict[str, Any]:
    """Return what the target counted under load in `seconds` (`target.Turns`).

    The load never pauses, and the generator never sleeps, because the target would have to pay for waking it.
    """
    clients = [Client(port) for _ in range(connections)]
    control = Client(port)
    end_s = time.perf_counter() + seconds

    async def hammer(client: Client) -> None:
        while time.perf_counter() < end_s:
            await client.call("GET", "/work")

    async def never_sleep() -> None:
        while True:
            await asyncio.sleep(0)

    awake = asyncio.create_task(never_sleep())
    try:
        await control.call("POST", "/turns")
        await asyncio.gather(*map(hammer, clients))
        counted: dict[str, Any] = await control.call("POST", "/turns")
    finally:
        awake.cancel()
        for client in (*clients, control):
            client.close()
    return counted


def _over_targets(seen: list[dict[str, Any]], mode: str, figure: int) -> tuple[float, float, float]:
    ratios = []
    for one in seen:
        rounds = zip(one["counted"][mode], one["counted"]["nothing"], strict=False)  # the last round may be unfinished
        ratios.append(statistics.median(turn[figure] / nothing[figure] for turn, nothing in rounds))
    return statistics.median(ratios), min(ratios), max(ratios)
