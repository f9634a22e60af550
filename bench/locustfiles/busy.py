"""A generator that is kept busy by its own users, in short steps, beside chats with the embedded target."""

import asyncio
import os
import time

from locust import constant, task

from asyncload_lib import AsyncUser, ChatUser

STEP_S = 0.001
PERIOD_S = 0.1


class Busy(AsyncUser):
    """Takes 1 % of a core: a step of 1 ms of CPU ten times a second."""

    fixed_count = int(os.environ["BENCH_BUSY_USERS"])
    wait_time = constant(PERIOD_S)

    @task
    async def work(self) -> None:
        async with self.measure("CPU", "step"):
            end_s = time.thread_time() + STEP_S
            while time.thread_time() < end_s:
                pass
            await asyncio.sleep(0)


class Chat(ChatUser):
    fixed_count = int(os.environ["BENCH_CHAT_USERS"])
    wait_time = constant(0.2)
