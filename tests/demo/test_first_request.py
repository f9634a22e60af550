"""The demo's first answer: whatever it did for the first time in it would be a stall of the loop, and fail the run."""

import json
import subprocess
import sys
from pathlib import Path

from asyncload_lib.demo.stack import DemoStack
from tests.locust_run import ROOT

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from asyncload_lib.demo.app import BackendOptions, create_app
from asyncload_lib.demo.ledger import Ledger

redis_url, directory = sys.argv[1:]
Ledger.create(Path(directory) / "ledger-async")
app = create_app(BackendOptions("async", "async", redis_url, directory, "token", "/asyncload/loop", 0.01, False))
body = json.dumps({"message": "hello", "session_id": "first"}).encode()
headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
scope = {
    "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
    "scheme": "http", "path": "/api/chat", "raw_path": b"/api/chat", "query_string": b"", "root_path": "",
    "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
}

async def main():
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    async def receive():
        return messages.pop(0) if messages else await asyncio.Event().wait()
    async def send(message):
        sent.append(message)
    sent = []
    async with app.router.lifespan_context(app):
        known = set(sys.modules)
        await app(scope, receive, send)
    print(json.dumps([sent[0]["status"], sorted(set(sys.modules) - known)]))

asyncio.run(main())
"""


def test_nothing_is_imported_amid_the_first_answer(stack: DemoStack, tmp_path: Path) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", PROGRAM, stack.redis_direct_url, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(asked.stdout) == [200, []]
