"""A real process in a session of its own, with everything that it and its children print in one file."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

__all__ = ["LEAN_PYTEST", "LoggedProcess"]


OF_OTHERS = ("ASYNCLOAD_", "LOCUST_", "MAKE")
"""Variables of whoever runs the tests that are not for what is tested."""

LEAN_PYTEST = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p pytest_timeout"}
"""Environment of a pytest that a test starts: to load what else is installed takes most of its start."""


class LoggedProcess:
    """Started at once, in this environment and with `settings`; ended at the latest when its block is left."""

    def __init__(self, command: Sequence[str], cwd: Path, log: Path, settings: Mapping[str, str]) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith(OF_OTHERS)}
        self._log = log.open("w+")
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**own, **settings},
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
        """Everything printed so far, by whichever process."""
        return Path(self._log.name).read_text(errors="replace")

    def wait(self, timeout_s: float = 120.0) -> int:
        """Wait for the end and return the exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:g} s:\n{self.output}") from None

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process, or to its group as a terminal does."""
        (os.killpg if group else os.kill)(self.process.pid, number)
