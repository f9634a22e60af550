"""What runs on the hosts of a test network, each as `python -m tests.distributed.machines WHAT ...`.

gateway ADDRESS DELAY A=B...   forward from ADDRESS:A to the same machine's 127.0.0.1:B, each way DELAY seconds later
machine ADDRESS PORT           a machine whose health is asked: 200 on /health; /count says how often
ask URL...                     print what each of them answers, as one JSON list
post URL                       send nothing there
commands ADDRESS PORT          print how often that Redis executed each command, as JSON
"""

import asyncio
import json
import socket
import sys
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def gateway(address: str, delay_s: str, *pairs: str) -> None:
    from asyncload_lib.demo.proxy import serve_proxy

    async def serve() -> None:
        for pair in pairs:
            outside, inside = map(int, pair.split("="))
            await serve_proxy(socket.create_server((address, outside)), ("127.0.0.1", inside), float(delay_s))
        print("ready", flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


def machine(address: str, port: str) -> None:
    asked = {"count": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked["count"] += self.path == "/health"
            body = json.dumps(asked).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer((address, int(port)), Handler)
    print("ready", flush=True)
    server.serve_forever()


def ask(*urls: str) -> None:
    answers = []
    for url in urls:
        with urllib.request.urlopen(url, timeout=10) as answer:
            answers.append(json.load(answer))
    print(json.dumps(answers))


def post(url: str) -> None:
    with urllib.request.urlopen(url, b"", timeout=10) as answer:
        print(json.dumps(answer.status))


def commands(address: str, port: str) -> None:
    from redis import Redis

    with Redis(address, int(port), protocol=2) as client:
        rows = client.info("commandstats")
    print(json.dumps({name.removeprefix("cmdstat_"): row["calls"] for name, row in rows.items()}))


if __name__ == "__main__":
    known: list[Callable[..., None]] = [gateway, machine, ask, post, commands]
    {what.__name__: what for what in known}[sys.argv[1]](*sys.argv[2:])
