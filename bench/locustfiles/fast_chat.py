"""The same POST again and again, by Locust's FastHttpUser."""

import itertools
import os

from locust import FastHttpUser, constant, task

NAMES = itertools.cycle([f"/chat/{number}" for number in range(int(os.environ.get("BENCH_ENDPOINTS", "1")))])


class Chat(FastHttpUser):
    wait_time = constant(0)

    @task
    def ask(self) -> None:
        self.client.post("/chat", json={"message": "hello, how is it going"}, name=next(NAMES))
