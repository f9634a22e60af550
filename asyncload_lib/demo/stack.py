"""The embedded target for a caller: a context manager around the demo's supervisor process.

Works in a plain process and in one that gevent has patched: no thread, no asyncio, only a child process and blocking
reads. The supervisor holds the other end of a pipe: when the caller ends, however it ends, so does the demo.
"""

import http.client
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asyncload_lib.demo.children import COMPLAINT, python_environment
from asyncload_lib.errors import TargetError

__all__ = ["DemoStack"]

_STOP_TIMEOUT_S = 8.0
"""How long the supervisor may take to end, and again its directory to be gone, before they are removed by force."""


class DemoStack:
    """The demo, running between `start` and `stop`, or inside a `with` block; raises TargetError.

    Times in seconds. After the start: `host`, `blocking_host`, `redis_url` (through the delay proxy),
    `redis_direct_url`, `vms` (name, kind, url), `ledger_url`, `probe_token`, `probe_path`, `pids` (by role:
    supervisor, reaper, redis, proxy, backend, blocking, vms), `directory`, `simulated`. `faults` lets requests ask
    for faults. When one process dies, all end.
    """

    host: str
    blocking_host: str
    redis_url: str
    redis_direct_url: str
    vms: list[dict[str, str]]
    ledger_url: str
    probe_token: str
    probe_path: str
    pids: dict[str, int]
    directory: str
    simulated: dict[str, float]

    def __init__(
        self,
        mode: str = "async",
        model_time_s: float = 0.2,
        network_delay_s: float = 0.005,
        vm_delay_s: float = 0.02,
        port: int = 0,
        probe_path: str = "/asyncload/loop",
        faults: bool = False,
    ) -> None:
        self._arguments = ["--lifeline", "--port", str(port), *(["--faults"] if faults else [])]
        self._settings = {
            "ASYNCLOAD_DEMO_MODE": mode,
            "ASYNCLOAD_DEMO_MODEL_TIME": str(model_time_s),
            "ASYNCLOAD_DEMO_NETWORK_DELAY": str(network_delay_s),
            "ASYNCLOAD_DEMO_VM_DELAY": str(vm_delay_s),
            "ASYNCLOAD_LOOP_PROBE_PATH": probe_path,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._failure: str | None = None
        self._said = ""

    def __enter__(self) -> "DemoStack":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until it answers; about a second."""
        self._owner = os.getpid()
        others = {name: text for name, text in python_environment().items() if not name.startswith("ASYNCLOAD_")}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "asyncload_lib.demo.supervisor", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**others, **self._settings},
            start_new_session=True,  # Ctrl-C in a terminal is the caller's: it ends the demo when its report is done
        )
        try:
            self._read_ready_line(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End everything; does nothing in a process forked from the one that started it, or when called twice."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.terminate()  # closing the lifeline is not enough: a forked process may hold it too
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        self._await_reaper()

    def failure(self) -> str | None:
        """Return what the supervisor complained of as it began to end everything, else None."""
        process = self._process
        pipe = process.stderr if process is not None else None
        while self._failure is None and process and pipe and select.select([pipe], [], [], 0)[0]:
            words = os.read(pipe.fileno(), 1 << 16).decode(errors="replace")
            self._said += words
            _, is_complaint, complaint = self._said.rpartition(COMPLAINT)
            if is_complaint or not words:  # else they may be any interpreter's words, such as a warning
                self._failure = complaint.strip() or f"its supervisor ended with code {process.wait()}"
        return self._failure

    def ledger(self) -> dict[str, Any]:
        """Return what was really received: `chat` and `backends` (counts, `by_path`), `redis` (`commands`)."""
        return self._ask("GET", "")

    def ledger_ids(self) -> dict[str, Any]:
        """Return `ids` (role -> request id -> last state) and `complete`: False when older ids had to go."""
        return self._ask("GET", "/ids")

    def reset_ledger(self) -> None:
        """Empty the ledgers and the command counts of Redis; call it while nothing is in flight."""
        self._ask("POST", "/reset")

    def _read_ready_line(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        line = process.stdout.readline()  # the supervisor bounds its own start: a line or the end comes
        if not line:
            process.wait()
            raise TargetError(f"the demo did not start: {self.failure()}")
        for name, value in json.loads(line).items():
            setattr(self, name, value)

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        parts = urlsplit(self.ledger_url + path)
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        try:
            connection.request(method, parts.path)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        except OSError as error:
            raise TargetError(self.failure() or f"the ledger does not answer: {error}") from error
        finally:
            connection.close()

    def _await_reaper(self) -> None:
        """Wait until the directory is gone: if the supervisor was killed, its reaper removes it a little later."""
        directory = Path(getattr(self, "directory", os.devnull))
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while directory.is_dir() and time.monotonic() < deadline:
            time.sleep(0.02)
        if directory.is_dir():
            shutil.rmtree(directory, ignore_errors=True)
