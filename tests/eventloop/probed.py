"""A small application with the probe at `/watch`, in servers of its own, and how to ask them."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.distributed.cluster import free_port

Process = subprocess.Popen[bytes]

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "secret"
APP = """
import os, sys, time
from asyncload_lib import LoopProbe

async def inner(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/block":
        time.sleep(0.15)  # the culprit
    body = str(os.getpid()).encode()
    if scope["path"] == "/modules":
        body = " ".join(m for m in ("locust", "gevent", "numpy", "msgpack") if m in sys.modules).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

app = LoopProbe(inner, token="secret", path="/watch")
"""


def call(url: str, method: str = "GET", token: str | None = None) -> tuple[int, bytes]:
    headers = {} if token is None else {"X-Asyncload-Token": token}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@contextlib.contextmanager
def started(
    directory: Path, *command: str, app: str = APP, fds: tuple[int, ...] = (), within: tuple[str, ...] = ()
) -> Iterator[Process]:
    """Python in a process that can import the app above as `probed`, until the block ends.

    `within`: a command that runs it.
    """
    (directory / "probed.py").write_text(textwrap.dedent(app))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{directory}", "TMPDIR": str(directory)}
    process = subprocess.Popen([*within, sys.executable, *command], env=environment, pass_fds=fds)
    try:
        yield process
    finally:
        (process.kill if within else process.terminate)()  # unshare ends by that alone, and its child with it
        assert process.wait(20) is not None


def wait_for_answer(url: str, process: Process) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            call(url)
            return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextlib.contextmanager
def server(directory: Path, *options: str, app: str = APP, within: tuple[str, ...] = ()) -> Iterator[str]:
    """uvicorn with the app above, until the block ends."""
    port = free_port()
    command = ["-m", "uvicorn", "probed:app", "--port", str(port), "--log-level", "warning", *options]
    with started(directory, *command, app=app, within=within) as process:
        wait_for_answer(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"


def pids(body: dict[str, Any]) -> list[int]:
    """The workers in an answer of the probe."""
    return [worker["pid"] for worker in body["workers"]]


def read(url: str) -> dict[str, Any]:
    status, body = call(f"{url}/watch", token=TOKEN)
    assert status == 200
    report: dict[str, Any] = json.loads(body)
    return report
