"""Processes that a benchmark starts: each in a session of its own, and all of them gone when the benchmark is.

Only what was started here is ever ended, by its own process group.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import psutil

from asyncload_lib.demo.children import death_signal_setter

__all__ = ["GENERATOR_CORE", "ROOT", "TARGET_CORE", "Process", "free_port", "leave", "wait_until"]

ROOT = Path(__file__).parent.parent

_cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
TARGET_CORE, GENERATOR_CORE = (_cores[0], _cores[1]) if len(_cores) > 1 else (None, None)
"""The CPU for the target, and that for a generator of one process; None on a machine that has only one."""

_ENVIRONMENT = {"PYTHONPATH": str(ROOT), **os.environ}
_ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # else asyncload, but no peer, would be compiled anew at each start


class Process:
    """A command in its own process group, with its output in files; use it as a context manager.

    The whole group ends with the block, and the command also if the benchmark is killed (Linux). `environment` is added
    to the benchmark's own; `core`: the only CPU that it may use.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        directory: Path,
        environment: Mapping[str, str] | None = None,
        core: int | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        name = f"{Path(self.command[0]).name}-{time.monotonic_ns()}"
        self._out, self._err = directory / f"{name}.out", directory / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**_ENVIRONMENT, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=partial(_settle, death_signal_setter(signal.SIGKILL), core),
            )
        self.pid = self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        return self._out.read_text("utf-8", "replace")

    @property
    def errors(self) -> str:
        return self._err.read_text("utf-8", "replace")

    def wait(self, timeout_s: float) -> int:
        """Return the exit code; raises TimeoutError."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.command[0]} did not end within {timeout_s:g} s") from None

    def cpu_s(self) -> float:
        """Return the CPU time that the process and its living children have used so far."""
        try:
            process = psutil.Process(self.pid)
            times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        except psutil.NoSuchProcess:
            return float("nan")
        return float(sum(one.user + one.system for one in times))

    def terminate(self) -> None:
        """Ask the process to end by itself.

        Not as Ctrl-C does: a KeyboardInterrupt is lost if it comes while CPython runs a finalizer, and Locust goes on.
        """
        self._process.terminate()

    def stop(self) -> None:
        """End the whole group and reap the process."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(10)

    def complaint(self) -> str:
        """Return the last line that the process wrote to stderr, else to stdout."""
        lines = [line for text in (self.output, self.errors) for line in text.splitlines() if line.strip()]
        return lines[-1].strip()[:200] if lines else "it said nothing"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _settle(set_death_signal: Callable[[], None] | None, core: int | None) -> None:
    if set_death_signal is not None:
        set_death_signal()
    if core is not None:
        os.sched_setaffinity(0, {core})


def leave(number: int, frame: FrameType | None) -> None:
    """End as on Ctrl-C, as the handler of a signal: every `with` block ends its processes on the way out."""
    raise KeyboardInterrupt


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 20.0, pause_s: float = 0.01) -> Any:
    """Return the first true value of `condition()`, for which OSError is false; raises TimeoutError naming `what`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if value := condition():
                return value
        except OSError:
            pass
        time.sleep(pause_s)
    raise TimeoutError(f"{what}: not within {timeout_s:g} s")
