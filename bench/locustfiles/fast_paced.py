"""The same POST at a fixed rate per user (BENCH_RATE requests/s), by Locust's FastHttpUser."""

import os

from locust import FastHttpUser, constant_throughput, task


class Chat(FastHttpUser):
    wait_time = constant_throughput(float(os.environ["BENCH_RATE"]))

    @task
    def ask(self) -> None:
        self.client.post("/chat", json={"message": "hello, how is it going"})
