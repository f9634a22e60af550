"""A target of several servers behind one address, as real processes, and a balancer that deals out connections."""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.distributed.cluster import free_port
from tests.locust_run import ROOT, eventually

__all__ = ["TOKEN", "Balancer", "server"]

TOKEN = "secret"
APP = """
import os, time
from asyncload_lib import LoopProbe

async def inner(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/work":
        time.sleep(float(os.environ["BLOCKS_S"]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

app = LoopProbe(inner, token=os.environ["TOKEN"])
"""


@contextlib.contextmanager
def server(folder: Path, workers: int = 1, *, blocks_s: float = 0.0, token: str = TOKEN) -> Iterator[tuple[int, int]]:
    """Run uvicorn until the block ends; yield port and process. `blocks_s`: for how long /work holds its loop."""
    (folder / "replica.py").write_text(APP)
    port = free_port()
    settings = {"PYTHONPATH": f"{ROOT}:{folder}", "BLOCKS_S": str(blocks_s), "TOKEN": token}
    # Connections stay as long as the client wants: whom a balancer gave a good replica keeps it.
    command = [*(sys.executable, "-m", "uvicorn", "replica:app", "--port", str(port))]
    command += ["--log-level", "warning", "--timeout-keep-alive", "60"]
    command += ["--workers", str(workers)] if workers > 1 else []
    process = subprocess.Popen(command, env={**os.environ, **settings})

    def are_there() -> bool:
        assert process.poll() is None
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/asyncload/loop", headers={"X-Asyncload-Token": token})
        with contextlib.suppress(OSError), urllib.request.urlopen(asked, timeout=5) as answer:
            return len(json.load(answer)["workers"]) == workers
        return False

    try:
        eventually(are_there)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


class Balancer:
    """A TCP balancer that leads each new connection to the next of `ports`; `hold(s)` has nothing go through for so
    long.
    """

    def __init__(self, *ports: int) -> None:
        self.port = 0
        self.connections = 0
        self._ports = itertools.cycle(ports)
        self._listening = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    def hold(self, seconds: float) -> None:
        self._loop.call_soon_threadsafe(time.sleep, seconds)

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._ended.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", next(self._ports))
            await asyncio.gather(_pipe(reader, up_writer), _pipe(up_reader, writer))

    def __enter__(self) -> "Balancer":
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
