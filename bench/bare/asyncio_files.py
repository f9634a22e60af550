"""Plain asyncio and `asyncio.to_thread`, no Locust: `asyncio_files.py DIRECTORY USERS BYTES`; BENCH_COUNT counts.

The same steps as asyncload's FileUser, on the standard library's executor with as many threads.
"""

import asyncio
import itertools
import os
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop

from bench.shared_count import SharedCount

NUMBERS = itertools.count(1)
COUNT = SharedCount(os.environ["BENCH_COUNT"])


def round_trip(directory: Path, payload: bytes) -> None:
    path = directory / f"{next(NUMBERS)}.bin"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    assert path.read_bytes() == payload
    path.unlink()


async def main(directory: Path, users: int, size: int) -> None:
    latencies: list[float] = []
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))

    async def user() -> None:
        while True:
            payload = secrets.token_bytes(size)
            begun = time.perf_counter()
            await asyncio.to_thread(round_trip, directory, payload)
            latencies.append(time.perf_counter() - begun)
            COUNT.add()

    await asyncio.gather(*(user() for _ in range(users)))


uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
