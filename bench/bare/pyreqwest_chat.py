"""pyreqwest on uvloop, no load tester around it: `pyreqwest_chat.py URL USERS`; records each latency in a list."""

import asyncio
import sys
import time

import uvloop
from pyreqwest.client import Client, ClientBuilder

from bench.garbage import prepare


async def user(client: Client, url: str, latencies: list[float]) -> None:
    while True:
        begun = time.perf_counter()
        answer = await client.post(url).body_json({"message": "hello, how is it going"}).build().send()
        await answer.bytes()
        latencies.append(time.perf_counter() - begun)


async def main(url: str, users: int) -> None:
    latencies: list[float] = []
    async with ClientBuilder().build() as client:
        await asyncio.gather(*(user(client, url, latencies) for _ in range(users)))


prepare()
uvloop.run(main(sys.argv[1], int(sys.argv[2])))
