"""aiohttp on uvloop, no load tester around it: `aiohttp_chat.py URL USERS`; records each latency in a list."""

import asyncio
import sys
import time

import aiohttp
import uvloop

from bench.garbage import prepare


async def user(session: aiohttp.ClientSession, url: str, latencies: list[float]) -> None:
    while True:
        begun = time.perf_counter()
        async with session.post(url, json={"message": "hello, how is it going"}) as answer:
            await answer.read()
        latencies.append(time.perf_counter() - begun)


async def main(url: str, users: int) -> None:
    latencies: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(user(session, url, latencies) for _ in range(users)))


prepare()
uvloop.run(main(sys.argv[1], int(sys.argv[2])))
