"""A TCP proxy that delays each direction by a fixed time: the network between two machines.

Only time is added: bytes keep their order, and any amount may be on the way at once, so that throughput is what it is
without the proxy. Each piece is held at least `delay_s`, and one to two milliseconds longer at most on an idle machine
(the timers of uvloop count milliseconds).
"""

import asyncio
import socket
from collections import deque
from math import ceil
from time import perf_counter
from typing import cast

__all__ = ["DelayLine", "serve_proxy"]

HIGH_WATER_BYTES = 32 << 20
"""A source is not read while so much of it is on the way, so that memory stays bounded if the other side is slow."""

_END = b""


class DelayLine(asyncio.Protocol):
    """One end of a proxied connection: what it receives is written to its peer after `delay_s`."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._transport: asyncio.Transport | None = None
        self._peer: DelayLine | None = None
        self._on_the_way: deque[tuple[float, bytes]] = deque()  # (due, data), in order of both; _END comes last
        self._bytes_on_the_way = 0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._peer_full = False
        self._lost = False
        self._delivered_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._bytes_on_the_way += len(data)
        self._send_later(data)
        self._regulate()

    def eof_received(self) -> bool:
        self._send_later(_END)
        return True  # half-closed: the other direction goes on

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._send_later(_END)

    def pause_writing(self) -> None:
        if self._peer is not None:
            self._peer._peer_full = True
            self._peer._regulate()

    def resume_writing(self) -> None:
        if self._peer is not None:
            self._peer._peer_full = False
            self._peer._regulate()

    def join(self, peer: "DelayLine") -> None:
        """Connect both ends to each other, and send what has come in the meantime and is due."""
        self._peer, peer._peer = peer, self
        self._deliver()

    def abort(self) -> None:
        """Close this end at once."""
        if self._transport is not None:
            self._transport.abort()

    def _send_later(self, data: bytes) -> None:
        self._on_the_way.append((perf_counter() + self._delay_s, data))
        if self._timer is None:
            self._wake_in(self._delay_s)

    def _wake_in(self, seconds: float) -> None:
        # Rounded up: uvloop rounds to the nearest millisecond, and zero would spin.
        self._timer = asyncio.get_running_loop().call_later(ceil(seconds * 1000) / 1000, self._deliver)

    def _deliver(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._peer is None:
            return
        now = perf_counter()
        while self._on_the_way and self._on_the_way[0][0] <= now:
            _, data = self._on_the_way.popleft()
            self._bytes_on_the_way -= len(data)
            self._peer._write(data)
            if data is _END:
                self._end()
        if self._on_the_way:
            self._wake_in(self._on_the_way[0][0] - now)
        self._regulate()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing() and data:
            self._transport.write(data)

    def _end(self) -> None:
        """Pass the end of the stream on: half-close the peer, or close it when this end is gone or both have ended."""
        self._delivered_end = True
        peer = self._peer
        if peer is None or peer._transport is None or peer._transport.is_closing():
            return
        if self._lost or peer._delivered_end:
            peer._transport.close()
            if self._transport is not None:
                self._transport.close()
        else:
            peer._transport.write_eof()

    def _regulate(self) -> None:
        full = self._peer_full or self._bytes_on_the_way >= HIGH_WATER_BYTES
        if self._transport is None or self._transport.is_closing() or full == self._paused:
            return
        self._paused = full
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class _Inbound(DelayLine):
    """The client's end: it opens the connection to the upstream server."""

    def __init__(self, delay_s: float, upstream: tuple[str, int], connecting: set[asyncio.Task[None]]) -> None:
        super().__init__(delay_s)
        self._upstream = upstream
        self._connecting = connecting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        task = asyncio.get_running_loop().create_task(self._connect())
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, outbound = await loop.create_connection(lambda: DelayLine(self._delay_s), *self._upstream)
        except OSError:
            self.abort()
        else:
            self.join(outbound)


async def serve_proxy(listening: socket.socket, upstream: tuple[str, int], delay_s: float) -> asyncio.Server:
    """Accept on `listening` and forward to `upstream`, each direction `delay_s` later; return the running server."""
    connecting: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Inbound(delay_s, upstream, connecting), sock=listening, backlog=2048)
