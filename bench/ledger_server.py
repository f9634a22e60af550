"""HTTP/1.1 on a bare asyncio protocol that keeps a ledger: when each request came, when its answer left.

POST anything        -> ANSWER, after a delay drawn from the seed: 80 % 2 ms, 19 % 5 ms, 1 % 25 ms (with --delays)
POST /stream?n=&gap= -> n server-sent events, one each `gap` microseconds; each carries the moment it was written
GET /ledger | /figures | /reset

Moments are `perf_counter_ns`, which on Linux is one clock for all processes of a machine.
"""

import argparse
import asyncio
import json
import os
import random
import re
import time
from array import array
from collections import deque
from urllib.parse import parse_qs, urlsplit

import numpy as np
import uvloop

ANSWER = b'{"success":true,"data":{"content":"an answer of about a hundred bytes","role":"assistant","message_id":"1"}}'
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Ledger:
    """What the server knows of its requests: the time each took (s), and how many events were sent."""

    def __init__(self, delays: bool) -> None:
        self.took_s = array("d")
        self.events = 0
        drawn = random.Random(1)
        self.delays_s = deque(drawn.choices((0.002, 0.005, 0.025), (80, 19, 1), k=9973)) if delays else None

    def figures(self) -> dict[str, float | int | None]:
        took = np.array(self.took_s)
        quantiles = {f"p{q:g}": float(np.quantile(took, q / 100)) if len(took) else None for q in (50, 99)}
        top = float(took.max()) if len(took) else None
        return {"requests": len(took), "events": self.events, **quantiles, "max": top}


class Connection(asyncio.Protocol):
    """One client; it sends one request after another."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.rest = b""
        self.stream: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]
        self.file: int = transport.get_extra_info("socket").fileno()

    def connection_lost(self, error: Exception | None) -> None:
        if self.stream is not None:
            self.stream.cancel()

    def data_received(self, data: bytes) -> None:
        came_ns = time.perf_counter_ns()
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head = self.rest[:end]
            found = LENGTH.search(head)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self.rest) < whole:
                return
            self.rest = self.rest[whole:]
            self.answer(head, came_ns)

    def answer(self, head: bytes, came_ns: int) -> None:
        ledger = self.ledger
        method, target, _ = head.split(b" ", 2)
        if method == b"GET":
            self.tell(target)
        elif target.startswith(b"/stream"):
            asked = parse_qs(urlsplit(target.decode()).query)
            n, gap_us = int(asked["n"][0]), float(asked["gap"][0])
            self.stream = asyncio.get_running_loop().create_task(self.send_events(n, gap_us / 1e6, came_ns))
        elif ledger.delays_s is None:
            self.finish(came_ns)
        else:
            delay_s = ledger.delays_s[0]
            ledger.delays_s.rotate(-1)
            asyncio.get_running_loop().call_later(delay_s, self.finish, came_ns)

    def finish(self, came_ns: int) -> None:
        self.transport.write(OK % (len(ANSWER), ANSWER))
        self.ledger.took_s.append((time.perf_counter_ns() - came_ns) / 1e9)

    def tell(self, target: bytes) -> None:
        ledger = self.ledger
        if target == b"/reset":
            del ledger.took_s[:]
            ledger.events = 0
        known = ledger.figures() if target == b"/figures" else {"requests": len(ledger.took_s), "events": ledger.events}
        text = json.dumps(known).encode()
        self.transport.write(OK % (len(text), text))

    async def put(self, data: bytes) -> bool:
        """Write now: a transport of uvloop writes at the end of the loop's turn, behind all other streams' events.

        False if the reader is gone.
        """
        while data and not self.transport.is_closing():
            try:
                data = data[os.write(self.file, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)
            except ConnectionError:
                break
        return not data

    async def send_events(self, n: int, gap_s: float, came_ns: int) -> None:
        """Write `n` events on a schedule of their own; with a gap of 0 as fast as the other streams let it."""
        clock_ns = time.perf_counter_ns
        if not await self.put(STREAM):
            return
        begun_s = time.perf_counter()
        for number in range(n):
            if number:
                await asyncio.sleep(max(0.0, begun_s + number * gap_s - time.perf_counter()))
            kind = "chunk" if number < n - 1 else "end"
            event = b'data: {"type": "%b", "content": "token ", "sent_ns": %d}\n\n' % (kind.encode(), clock_ns())
            if not await self.put(b"%x\r\n%b\r\n" % (len(event), event)):
                return
            self.ledger.events += 1
        await self.put(b"0\r\n\r\n")
        self.ledger.took_s.append((clock_ns() - came_ns) / 1e9)
        self.stream = None


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delays", action="store_true")
    options = parser.parse_args()
    ledger = Ledger(options.delays)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(ledger), "127.0.0.1", options.port, backlog=8192)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
