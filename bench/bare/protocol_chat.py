"""The least that an asyncio client can do, `protocol_chat.py URL USERS`: send fixed bytes, find the answer's end.

No client library and no load tester: what uvloop, the kernel and CPython cost, the ceiling of any client on this loop.
"""

import asyncio
import sys
import time
from urllib.parse import urlsplit

import uvloop

from bench.garbage import prepare

BODY = b'{"message":"hello, how is it going"}'


class Connection(asyncio.Protocol):
    def __init__(self, request: bytes, latencies: list[float]) -> None:
        self.request = request
        self.latencies = latencies
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.user = self.loop.create_task(self.run())

    async def run(self) -> None:
        while True:
            begun = time.perf_counter()
            self.answered = self.loop.create_future()
            self.transport.write(self.request)
            await self.answered
            self.latencies.append(time.perf_counter() - begun)

    def data_received(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        at = head.index(b"Content-Length: ") + 16
        assert int(head[at : head.index(b"\r\n", at)]) == len(body)
        self.answered.set_result(body)


async def main(url: str, users: int) -> None:
    latencies: list[float] = []
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    head = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY
    loop = asyncio.get_running_loop()
    for _ in range(users):
        await loop.create_connection(lambda: Connection(request, latencies), parts.hostname, parts.port)
    await asyncio.Event().wait()


prepare()
uvloop.run(main(sys.argv[1], int(sys.argv[2])))
