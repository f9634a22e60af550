"""Users that do nothing: what an AsyncUser costs while it waits. BENCH_OUT: where the figures go."""

import asyncio

from locust import constant, task

from asyncload_lib import AsyncHttpUser
from bench.idle import watch

arrived = watch()


class Idle(AsyncHttpUser):
    wait_time = constant(1000)

    @task
    async def nothing(self) -> None:
        arrived()
        await asyncio.sleep(1000)
