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

import uvloop

from bench.garbage import prepare
from bench.shared_count import SharedCount

NUMBERS = itertools.count(1)
COUNT = SharedCount(os.environ["BENCH_COUNT"])


def round_trip(directory: str, payload: bytes) -> None:
    path = f"{directory}/{os.getpid()}-{next(NUMBERS)}.bin"  # other rounds, killed, have left files there
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    assert os.write(file, payload) == len(payload)
    os.fsync(file)
    os.close(file)
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    assert os.read(file, len(payload) + 1) == payload
    os.close(file)
    os.unlink(path)


async def main(directory: str, users: int, size: int) -> None:
    latencies: list[float] = []
    rest = secrets.token_bytes(size - 16)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))

    async def user() -> None:
        while True:
            payload = secrets.token_bytes(16) + rest
            begun = time.perf_counter()
            await asyncio.to_thread(round_trip, directory, payload)
            latencies.append(time.perf_counter() - begun)
            COUNT.add()

    await asyncio.gather(*(user() for _ in range(users)))


prepare()
uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
