"""What watching costs a target that is kept busy: the monitor alone, and the whole probe, each against nothing."""

import asyncio
import statistics
import time

from bench.loops.peers import Client

__all__ = ["TARGETS", "overhead"]

TARGETS = (("bare", 8), ("fastapi", 8), ("fastapi", 64))
"""What is kept busy, and by how many connections."""
MODES = ("nothing", "monitor", "probe")
WARM_S = 0.15
"""Load before each count: a monitor that has just been started takes the CPU time of all threads and measures its pace.
"""


async def overhead(port: int, connections: int, rounds: int, block_s: float) -> dict[str, dict[str, float]]:
    """Return for "monitor" and "probe" the ratios of throughput and of CPU per request to those of "nothing".

    The three take turns in one process, in an order that turns too; a ratio is the median of the rounds' ratios.
    """
    clients = [Client(port) for _ in range(connections)]
    control = Client(port)
    seen: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}

    async def hammer(client: Client, end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            await client.call("GET", "/work")
            done += 1
        return done

    async def load(seconds: float) -> int:
        end = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(hammer(client, end) for client in clients)))

    for number in range(rounds):
        for turn in range(len(MODES)):
            mode = MODES[(number + turn) % len(MODES)]
            await control.call("POST", f"/mode/{mode}")
            await load(WARM_S)
            before = (await control.call("POST", f"/mode/{mode}"))["cpu_s"]
            start = time.perf_counter()
            done = await load(block_s)
            elapsed = time.perf_counter() - start
            after = (await control.call("POST", f"/mode/{mode}"))["cpu_s"]
            seen[mode].append((done / elapsed, (after - before) / done))
    await control.call("POST", "/mode/probe")
    for client in (*clients, control):
        client.close()
    nothing = seen["nothing"]
    return {
        mode: {
            "requests_per_second": statistics.median(rate for rate, _ in nothing),
            "throughput_ratio": statistics.median(a[0] / b[0] for a, b in zip(seen[mode], nothing, strict=True)),
            "cpu_ratio": statistics.median(a[1] / b[1] for a, b in zip(seen[mode], nothing, strict=True)),
        }
        for mode in MODES[1:]
    }
