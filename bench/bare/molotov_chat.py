"""A molotov scenario: the same POST again and again, to BENCH_URL."""

import os

import aiohttp
import molotov


@molotov.scenario(weight=1)
async def ask(session: aiohttp.ClientSession) -> None:
    async with session.post(os.environ["BENCH_URL"], json={"message": "hello, how is it going"}) as answer:
        await answer.read()
