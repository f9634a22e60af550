"""What the loop bench needs around its target: the process itself, a raw HTTP client, and slow peers for its calls."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEER_DELAY_S = 0.04

SLOW_GETADDRINFO = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    if (name && !strcmp(name, "slow.asyncload.invalid")) { usleep(40000); name = "127.0.0.1"; }
    return real(name, service, hints, out);
}
"""


class Client:
    """One keep-alive HTTP/1.1 connection to loopback."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str) -> Any:
        """Return the JSON of one answer; raises RuntimeError for any status but 200."""
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        reader, writer = self._streams
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: bench\r\nX-Asyncload-Token: bench\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(f"{method} {path}: {head!r} {body!r}")
        return json.loads(body)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()


@contextlib.contextmanager
def target(
    loop: str, slow: dict[str, Any], preload: Path | None, kind: str = "bare", core: int | None = None
) -> Iterator[dict[str, int]]:
    """Run the target on a `loop` ("asyncio" or "uvloop") for as long as the block does; yield its `port` and `pid`.

    `kind`: a "bare" ASGI application or one of FastAPI ("fastapi"); `preload`: a library for LD_PRELOAD; `core`: the
    only CPU that it may use.
    """
    environment = {**os.environ, "LOOP_FAULTS_SLOW": json.dumps(slow)}
    if preload is not None:
        environment["LD_PRELOAD"] = str(preload)
    command = [sys.executable, str(HERE / "target.py"), loop, kind]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    if core is not None:
        os.sched_setaffinity(process.pid, {core})  # before it has any thread but the first
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield {**json.loads(process.stdout.readline()), "pid": process.pid}
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def slow_getaddrinfo(directory: Path) -> Path | None:
    """Compile a library that makes one name resolve slowly; return None where there is no C compiler."""
    if shutil.which("gcc") is None:
        return None
    (directory / "slow.c").write_text(SLOW_GETADDRINFO)
    library = directory / "slow.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, directory / "slow.c", "-ldl"], check=True)
    return library


def feed_fifo(path: Path) -> None:
    """Make a FIFO and write into it, after a delay, whenever somebody has opened it; in a thread that never ends."""

    def feed() -> None:
        while True:
            with path.open("wb") as file:
                time.sleep(PEER_DELAY_S)
                file.write(b"slow")
            time.sleep(0.01)

    os.mkfifo(path)
    threading.Thread(target=feed, daemon=True).start()


@contextlib.asynccontextmanager
async def slow_servers() -> AsyncIterator[dict[str, int]]:
    """Run an HTTP and a Redis server that answer after PEER_DELAY_S; yield their ports."""

    async def answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(PEER_DELAY_S)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    async with (
        await asyncio.start_server(answer_http, "127.0.0.1", 0) as web,
        await asyncio.start_server(redis_answers, "127.0.0.1", 0) as store,
    ):
        yield {"http_port": web.sockets[0].getsockname()[1], "redis_port": store.sockets[0].getsockname()[1]}


async def redis_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak enough RESP for one client: PING is slow, all else is OK at once."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            words = []
            for _ in range(int((await reader.readline() or b"*0")[1:] or 0)):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2])
            if not words:
                break
            if words[0].upper() == b"PING":
                await asyncio.sleep(PEER_DELAY_S)
            writer.write(b"+PONG\r\n" if words[0].upper() == b"PING" else b"+OK\r\n")
    writer.close()
