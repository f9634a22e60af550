"""A hub and an asyncio loop in one process that gevent has patched, each blocked once; prints both reports."""

from gevent import monkey

monkey.patch_all()

import asyncio  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import uvloop  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asyncload_lib.eventloop.lag import HubMonitor, LoopMonitor  # noqa: E402
from asyncload_lib.eventloop.native import native, start_native_thread  # noqa: E402

real_sleep = native("time", "sleep")
reports: list[dict[str, Any]] = []


async def watched_loop() -> None:
    async with LoopMonitor("generator") as monitor:
        await asyncio.sleep(0.3)
        real_sleep(0.25)
        await asyncio.sleep(0.05)
    reports.append(monitor.report())


def block_the_hub() -> None:
    real_sleep(0.2)


hub = HubMonitor(gevent.spawn, gevent.sleep)
hub.start()
gevent.sleep(0.1)
gevent.spawn(block_the_hub)
gevent.sleep(0.2)
start_native_thread(lambda: uvloop.run(watched_loop()))
while not reports:
    gevent.sleep(0.05)
hub.stop()
print(json.dumps([hub.report(), *reports]))
