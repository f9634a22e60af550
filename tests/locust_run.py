"""Runs the real `locust` command on a locustfile and reads what it left behind; the tests never import locust."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asyncload_lib.demo.stack import DemoStack
from tests.logged_process import LoggedProcess

__all__ = ["ROOT", "LocustRun", "eventually", "target_settings"]

ROOT = Path(__file__).resolve().parents[1]


def eventually(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Return the first true value of `condition()`; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {condition}"
        time.sleep(0.05)
    return value


def target_settings(stack: DemoStack) -> dict[str, str]:
    """Return the environment that points a run at `stack` as at any configured system."""
    return {
        "ASYNCLOAD_HOST": stack.host,
        "ASYNCLOAD_BASELINE_HOST": stack.blocking_host,
        "ASYNCLOAD_REDIS_URL": stack.redis_url,
        "ASYNCLOAD_VMS": ",".join(f"{vm['name']}={vm['url']}" for vm in stack.vms),
        "ASYNCLOAD_LOOP_PROBE_TOKEN": stack.probe_token,
    }


class LocustRun(LoggedProcess):
    """One `locust` process.

    `locustfile`: a name under locustfiles/ or a path. `settings`: ASYNCLOAD_* variables. Reports go to `out`.
    """

    def __init__(
        self, locustfile: str | Path, *arguments: str, out: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        path = ROOT / "locustfiles" / locustfile if isinstance(locustfile, str) else locustfile
        self.out = out
        self.command: Sequence[str] = [
            *(sys.executable, "-m", "locust", "-f", str(path)),
            *("--only-summary", "--loglevel", "INFO", *arguments),
        ]
        environment = {"PYTHONPATH": str(ROOT), "ASYNCLOAD_OUT": str(out), **(settings or {})}
        super().__init__(self.command, out.parent, out.parent / f"{out.name}.log", environment)

    def expect(self, text: str, timeout_s: float = 60.0) -> None:
        """Wait until `text` was printed; fails when the process ends first."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            ended = self.process.poll() is not None
            assert not ended or text in self.output, f"ended without {text!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {text!r} within {timeout_s:g} s:\n{self.output}"
            time.sleep(0.05)

    @property
    def results(self) -> dict[str, Any]:
        """The results file of the run; fails unless it is exactly one."""
        (path,) = self.out.glob("async_load_test_results_*.json")
        results: dict[str, Any] = json.loads(path.read_text())
        return results
