"""A whole landscape on one machine: a master, three workers, a target and six machines, each with its own address."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from asyncload_lib.demo.redis_server import find_redis_server
from tests.distributed.cluster import QUICK, Cluster, Node
from tests.distributed.network import Network
from tests.locust_run import eventually

__all__ = ["Landscape"]

MACHINES = ("Main", "Frontend", "NPU", "AI-Stack", "Browser")
WORKERS = ("worker0", "worker1", "worker2")
TARGET_PORT, BLOCKING_PORT, MACHINE_PORT, REDIS_PORT = 8001, 8002, 8080, 6379


class Landscape:
    """Stands between `with` and its end; `delay_ms` is the network's, or at least that of the way to the target."""

    def __init__(self, folder: Path, delay_ms: float = 2.0) -> None:
        self._delay_ms = delay_ms
        self.network = Network(delay_ms)
        self._folder = folder
        self._nodes: list[Node] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.network.__enter__()
        try:
            for host in ("master", *WORKERS, "target", "Redis", *MACHINES):
                self.network.add(host)
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            node.end()
        self.network.__exit__()

    def _start(self) -> None:
        address = self.network.address
        quick = {"ASYNCLOAD_DEMO_MODEL_TIME": "20ms", "ASYNCLOAD_DEMO_NETWORK_DELAY": "1ms"}
        target = self._run("target", [sys.executable, "-m", "asyncload_lib", "demo"], quick)
        redis = ["--bind", address("Redis"), "--port", str(REDIS_PORT), "--save", "", "--protected-mode", "no"]
        self._run("Redis", [find_redis_server(), *redis])
        machines = [self._serve(name, "machine", address(name), str(MACHINE_PORT)) for name in MACHINES]
        self._demo = json.loads(eventually(lambda: _line(target, '"ready"'), 60))
        ports = [self._demo[key].rpartition(":")[2] for key in ("host", "blocking_host")]
        pairs = [f"{TARGET_PORT}={ports[0]}", f"{BLOCKING_PORT}={ports[1]}"]
        delay_s = "0" if self.network.has_delay else str(self._delay_ms / 1e3)
        gateway = self._serve("target", "gateway", address("target"), delay_s, *pairs)
        for node in (gateway, *machines):
            eventually(lambda node=node: _line(node, "ready"), 60)  # type: ignore[misc]
        eventually(lambda: self.redis_commands() is not None, 20)

    def _serve(self, host: str, *arguments: str) -> Node:
        return self._run(host, [sys.executable, "-m", "tests.distributed.machines", *arguments])

    def _run(self, host: str, command: list[str], settings: Mapping[str, str] | None = None) -> Node:
        log = self._folder / f"{host}-{len(self._nodes)}.log"
        self._nodes.append(Node(command, log, settings or {}, self.network.place(host)))
        return self._nodes[-1]

    def _ask(self, host: str, *arguments: str) -> Any:
        command = [*self.network.place(host), sys.executable, "-m", "tests.distributed.machines", *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return json.loads(answer.stdout) if answer.returncode == 0 else None

    def redis_commands(self) -> dict[str, int] | None:
        """Return how often Redis executed each command; None while it does not answer."""
        counts: dict[str, int] | None = self._ask("Redis", "commands", self.network.address("Redis"), str(REDIS_PORT))
        return counts

    def ledger(self) -> dict[str, Any]:
        """Return the target's ledger, with the commands of the Redis under test and `vms`: how often each was asked."""
        urls = [f"http://{self.network.address(name)}:{MACHINE_PORT}/count" for name in MACHINES]
        ledger: dict[str, Any]
        ledger, *counts = self._ask("target", "ask", self._demo["ledger_url"], *urls)
        ledger["redis"]["commands"] = self.redis_commands()
        ledger["vms"] = {name: count["count"] for name, count in zip(MACHINES, counts, strict=True)}
        return ledger

    def chat_ids(self) -> dict[str, str]:
        """Return the ids of the chat requests that came to the target, each with what became of it."""
        (told,) = self._ask("target", "ask", f"{self._demo['ledger_url']}/ids")
        ids: dict[str, str] = told["ids"]["backend"]
        return ids

    def reset_ledger(self) -> None:
        """Empty the target's ledger."""
        assert self._ask("target", "post", f"{self._demo['ledger_url']}/reset") == 200

    def settings(self) -> dict[str, str]:
        """Return the settings of a run against this landscape."""
        address = self.network.address
        redis_url = f"redis://{address('Redis')}:{REDIS_PORT}/0"
        vms = [f"{name}=http://{address(name)}:{MACHINE_PORT}/health" for name in MACHINES]
        return {
            **QUICK,
            "ASYNCLOAD_HOST": f"http://{address('target')}:{TARGET_PORT}",
            "ASYNCLOAD_BASELINE_HOST": f"http://{address('target')}:{BLOCKING_PORT}",
            "ASYNCLOAD_REDIS_URL": redis_url,
            "ASYNCLOAD_VMS": ",".join([*vms, f"Redis={redis_url}"]),
            "ASYNCLOAD_LOOP_PROBE_TOKEN": self._demo["probe_token"],
        }

    def cluster(self, folder: Path, locustfile: str | Path, *arguments: str, **settings: str) -> Cluster:
        """Start a master and three workers, each on its own host."""
        places = [self.network.place(host) for host in ("master", *WORKERS)]
        return Cluster(
            folder,
            locustfile,
            *arguments,
            settings={**self.settings(), **settings},
            address=self.network.address("master"),
            places=places,
        )


def _line(node: Node, text: str) -> str | None:
    return next((line for line in node.output.splitlines() if text in line), None)
