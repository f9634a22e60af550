"""What the load goes to: nginx, redis-server and a server with a ledger, all on free loopback ports.

Throughput is counted by the target itself, so that every generator is measured with the same yardstick.
"""

import json
import shutil
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

from bench.ledger_server import ANSWER
from bench.processes import ROOT, TARGET_CORE, Process, free_port, wait_until

__all__ = ["BODY", "LedgerServer", "Nginx", "RedisServer"]

BODY = b'{"message":"hello, how is it going"}'

_NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log crit;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=16384;
        default_type application/json;
        location = /served {{ stub_status; }}
        location / {{ return 200 '{answer}'; }}
    }}
}}
"""


class Nginx(Process):
    """One process that answers every path with `ANSWER`; `served()` is its own count of requests."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.host = f"http://127.0.0.1:{self.port}"
        self._asked = 0
        directory.mkdir(parents=True, exist_ok=True)
        configuration = directory / "nginx.conf"
        configuration.write_text(_NGINX.format(directory=directory, port=self.port, answer=ANSWER.decode()))
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise FileNotFoundError("nginx is not installed")
        command: list[str | Path] = [program, "-p", directory, "-c", configuration, "-e", directory / "error.log"]
        super().__init__(command, directory, core=TARGET_CORE)
        wait_until(lambda: self.served() >= 0, "nginx did not answer")

    def served(self) -> int:
        """Return how many requests were answered, without those that asked for this figure."""
        with urllib.request.urlopen(f"{self.host}/served", timeout=5) as answer:
            text = answer.read().decode()
        self._asked += 1
        return int(text.splitlines()[2].split()[2]) - self._asked


class RedisServer(Process):
    """A Redis without persistence; `served()` counts the commands that clients sent."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        program = shutil.which("redis-server")
        if program is None:
            raise FileNotFoundError("redis-server is not installed")
        command: list[str | Path] = [
            program,
            *("--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"),
            *("--maxmemory", "256mb", "--maxmemory-policy", "allkeys-random", "--dir", directory),
        ]
        super().__init__(command, directory, core=TARGET_CORE)
        wait_until(lambda: self._ask("PING").startswith("+PONG"), "redis-server did not answer")

    def _ask(self, command: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(f"{command}\r\nQUIT\r\n".encode())
            with connection.makefile("rb") as answer:
                return answer.read().decode("utf-8", "replace")

    def served(self) -> int:
        """Return how many SET and GET commands were done."""
        calls = 0
        for line in self._ask("INFO commandstats").splitlines():
            if line.startswith(("cmdstat_set:", "cmdstat_get:")):
                calls += int(line.partition("calls=")[2].partition(",")[0])
        return calls


class LedgerServer(Process):
    """A uvloop server in a process of its own that notes when each request came and when its answer left.

    With `delays` it answers after the delays that `ledger_server` draws, else at once.
    """

    def __init__(self, directory: Path, *, delays: bool = False) -> None:
        self.port = free_port()
        self.host = f"http://127.0.0.1:{self.port}"
        program = ROOT / "bench" / "ledger_server.py"
        command: list[str | Path] = [sys.executable, program, f"--port={self.port}", *(["--delays"] if delays else [])]
        super().__init__(command, directory, core=TARGET_CORE)
        wait_until(lambda: self.ask("/ledger"), "the ledger server did not answer")

    def ask(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self.host + path, timeout=30) as answer:
            noted: dict[str, Any] = json.load(answer)
            return noted

    def served(self) -> int:
        """Return how many requests were answered since the last reset."""
        return int(self.ask("/ledger")["requests"])

    def events(self) -> int:
        """Return how many server-sent events were written since the last reset."""
        return int(self.ask("/ledger")["events"])

    def reset(self) -> None:
        self.ask("/reset")

    def figures(self) -> dict[str, Any]:
        """Return `requests`, `events`, and p50, p99, max of what the requests took (s), by the server's own clock."""
        return self.ask("/figures")
