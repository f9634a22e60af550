"""The same POST again and again, by asyncload. BENCH_ENDPOINTS: how many names the requests are spread over."""

import itertools
import os

from locust import constant, task

from asyncload_lib import AsyncHttpUser

NAMES = itertools.cycle([f"/chat/{number}" for number in range(int(os.environ.get("BENCH_ENDPOINTS", "1")))])


class Chat(AsyncHttpUser):
    wait_time = constant(0)

    @task
    async def ask(self) -> None:
        await self.client.post("/chat", json={"message": "hello, how is it going"}, name=next(NAMES))
