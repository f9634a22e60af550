"""Runs the real `locust` command on a locustfile and reads what it left behind; the tests never import locust."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from asyncload_lib.demo.stack import DemoStack

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


class LocustRun:
    """One `locust` process, started at once; ended at the latest when its block is left.

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
        self._log = (out.parent / f"{out.name}.log").open("w+")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ASYNCLOAD_", "LOCUST_"))},
            "PYTHONPATH": str(ROOT),
            "ASYNCLOAD_OUT": str(out),
            **(settings or {}),
        }
        self.process = subprocess.Popen(
            self.command,
            cwd=out.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._log.close()

    @property
    def output(self) -> str:
        """Everything printed so far, by whichever process of the run."""
        return Path(self._log.name).read_text(errors="replace")

    def expect(self, text: str, timeout_s: float = 60.0) -> None:
        """Wait until `text` was printed; fails when the process ends first."""
        deadline = time.monotonic() + timeout_s
        while text not in self.output:
            ended = self.process.poll() is not None
            assert not ended or text in self.output, f"ended without {text!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {text!r} within {timeout_s:g} s:\n{self.output}"
            time.sleep(0.05)

    def wait(self, timeout_s: float = 120.0) -> int:
        """Wait for the end and return the exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:g} s:\n{self.output}") from None

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process, or to its group as a terminal does."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    @property
    def results(self) -> dict[str, Any]:
        """The results file of the run; fails unless it is exactly one."""
        (path,) = self.out.glob("async_load_test_results_*.json")
        results: dict[str, Any] = json.loads(path.read_text())
        return results
