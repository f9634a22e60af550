"""A master and its workers, each a real `locust` process in a session of its own, on one machine or on many."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.locust_run import ROOT, eventually

__all__ = ["QUICK", "Cluster", "Node", "free_port"]

QUICK = {
    "ASYNCLOAD_CHAT_SUSTAIN": "2s",
    "ASYNCLOAD_CHAT_THINK_MEDIAN": "100ms",
    "ASYNCLOAD_BASELINE_ENABLED": "false",
    **{f"ASYNCLOAD_GENERATOR_MAX_{name}": "60s" for name in ("LOOP_LAG", "HUB_LAG", "SEND_DELAY")},
    "ASYNCLOAD_GENERATOR_MAX_CPU": "100",
}
"""Short phases; and a busy test machine is no reason to call these runs invalid."""


_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """Return a port that nobody has now; Locust takes no port 0."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, however that ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Node:
    """One process with its log; `prefix` is a command that runs another one, such as `ip netns exec`."""

    def __init__(
        self, command: Sequence[str], log: Path, settings: Mapping[str, str], prefix: Sequence[str] = ()
    ) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ASYNCLOAD_", "LOCUST_"))},
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
            **settings,
        }
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [*prefix, *command],
                cwd=log.parent,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self.process.send_signal(number)

    def abort(self) -> None:
        """Have the process write into its log what each of its threads is doing, and end."""
        self.send(signal.SIGABRT)
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            pass

    def end(self) -> None:
        """Kill the process and whatever it started, if they are still there."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class Cluster:
    """A run of `locustfile` by one master and `workers` workers, started at once and ended with the block.

    `places`: the command prefixes of the master and of each worker; `address`: where the workers find the master.
    `worker_settings`: what the workers have instead of `settings`; `worker_locustfiles`: what each has instead of
    `locustfile` ("-": what the master sends it).
    """

    def __init__(
        self,
        folder: Path,
        locustfile: str | Path,
        *arguments: str,
        workers: int = 3,
        settings: Mapping[str, str] = QUICK,
        worker_settings: Mapping[str, str] | None = None,
        worker_locustfiles: Sequence[str | Path] = (),
        address: str = "127.0.0.1",
        places: Sequence[Sequence[str]] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.out = folder / "reports"
        self._folder = folder
        self._places = [*places, *[()] * (1 + workers - len(places))]
        path = ROOT / "locustfiles" / locustfile if isinstance(locustfile, str) else locustfile
        self._locust = [sys.executable, "-m", "locust", "--loglevel", "INFO", "-f"]
        self._locustfiles = [*map(str, worker_locustfiles), *[str(path)] * (workers - len(worker_locustfiles))]
        self._locustfile = str(path)
        self._address, self._port = address, free_port()
        self._worker_settings = settings if worker_settings is None else worker_settings
        bind = ["--master-bind-host", address, "--master-bind-port", str(self._port), "--expect-workers", str(workers)]
        command = [*self._locust, self._locustfile, "--only-summary", "--master", *bind, *arguments]
        command += [] if "--web-port" in arguments else ["--headless"]
        settings = {**settings, "ASYNCLOAD_OUT": str(self.out)}
        self.workers: list[Node] = []
        self.master = Node(command, folder / "master.log", settings, self._places[0])
        for _ in range(workers):
            self.add_worker()

    def add_worker(self) -> Node:
        """Start one more worker."""
        number = len(self.workers)
        locustfile = self._locustfiles[number] if number < len(self._locustfiles) else self._locustfile
        command = [
            *self._locust,
            locustfile,
            "--worker",
            "--master-host",
            self._address,
            "--master-port",
            str(self._port),
        ]
        settings = {**self._worker_settings, "ASYNCLOAD_OUT": str(self._folder / f"worker{number}")}
        place = self._places[1 + number] if number + 1 < len(self._places) else ()
        node = Node(command, self._folder / f"worker{number}.log", settings, place)
        self.workers.append(node)
        return node

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for node in (self.master, *self.workers):
            if kind is not None and node.process.poll() is None:
                node.abort()
            node.end()

    @property
    def logs(self) -> str:
        """Everything that was printed, for the message of a failed assertion."""
        names = ["master", *(f"worker {number}" for number in range(len(self.workers)))]
        texts = (f"--- {name}\n{node.output}" for name, node in zip(names, (self.master, *self.workers), strict=True))
        return "\n".join(texts)

    def expect(self, *texts: str, timeout_s: float = 60.0) -> None:
        """Wait until the master has printed one of `texts`; fails when it ends first."""

        def printed() -> bool:
            ended = self.master.process.poll() is not None
            found = any(text in self.master.output for text in texts)
            assert found or not ended, f"ended without {texts}\n{self.logs}"
            return found

        eventually(printed, timeout_s)

    def expect_users(self) -> None:
        """Wait until Locust has spawned all users, or gives up waiting to hear that it has."""
        self.expect("All users spawned", "Spawning is complete")

    def wait(self, timeout_s: float = 120.0) -> int:
        """Wait for the end of the master and return its exit code."""
        try:
            return self.master.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the master still runs after {timeout_s:g} s\n{self.logs}") from None

    def wait_workers(self, timeout_s: float = 20.0) -> None:
        """Wait until every worker has ended by itself."""
        deadline = time.monotonic() + timeout_s
        for node in self.workers:
            try:
                node.process.wait(max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"a worker still runs {timeout_s:g} s after its master\n{self.logs}") from None

    @property
    def results(self) -> dict[str, Any]:
        """The results file of the run; fails unless it is exactly one."""
        paths = list(self.out.glob("async_load_test_results_*.json"))
        assert len(paths) == 1, f"{len(paths)} results\n{self.logs}"
        results: dict[str, Any] = json.loads(paths[0].read_text())
        return results
