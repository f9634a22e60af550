"""The same POST at a fixed rate per user (BENCH_RATE requests/s), by asyncload."""

import os

from locust import constant_throughput, task

from asyncload_lib import AsyncHttpUser


class Chat(AsyncHttpUser):
    wait_time = constant_throughput(float(os.environ["BENCH_RATE"]))

    @task
    async def ask(self) -> None:
        await self.client.post("/chat", json={"message": "hello, how is it going"})
