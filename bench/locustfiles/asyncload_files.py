"""Write, sync, read back, compare, delete, again and again, by asyncload's own FileUser; BENCH_COUNT counts."""

import os

from locust import constant, events

from asyncload_lib import FileUser
from bench.shared_count import SharedCount

COUNT = SharedCount(os.environ["BENCH_COUNT"])


class File(FileUser):
    wait_time = constant(0)


@events.request.add_listener
def _count(exception: Exception | None, **_: object) -> None:
    if exception is None:
        COUNT.add()
