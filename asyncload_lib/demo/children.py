"""The processes of the demo and their private directory, of which nothing stays behind.

Whatever ends the supervisor, even `kill -9`, the kernel then kills every child (PR_SET_PDEATHSIG, Linux). The directory
is removed by the reaper: a shell that reads a pipe whose other end the supervisor and all children hold, so that it
wakes when the last of them is gone.
"""

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["COMPLAINT", "Children", "death_signal_setter", "python_environment"]

COMPLAINT = "asyncload demo: "
"""What a line begins with in which their parent says why it ends them."""

_ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1
_REAPER = 'trap "" HUP INT TERM; read -r _; rm -rf -- "$1"'
GRACE_S = 2.0
"""How long a child may take to end after SIGTERM before SIGKILL."""


class Children:
    """Context manager: makes the directory, ends all children and removes the directory at exit."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.gettempdir(), f"asyncload-demo-{secrets.token_hex(6)}")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._set_death_signal = death_signal_setter(signal.SIGKILL)
        reading, self._held = os.pipe()
        try:  # the reaper before the directory, so that at no moment it has nobody to remove it
            self._reaper = subprocess.Popen(
                ["/bin/sh", "-c", _REAPER, "asyncload-demo-reaper", str(self.directory)],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": os.defpath},
                start_new_session=True,
            )
            self.directory.mkdir(mode=0o700)
        except BaseException:
            os.close(self._held)
            raise
        finally:
            os.close(reading)

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pids(self) -> dict[str, int]:
        """Process id of each role, with the supervisor and the reaper."""
        own = {"supervisor": os.getpid(), "reaper": self._reaper.pid}
        return own | {role: process.pid for role, process in self._processes.items()}

    def start_python(self, role: str, kind: str, sockets: Sequence[socket.socket], options: dict[str, Any]) -> None:
        """Start a child of `serve.py` and hand the listening sockets over: they are closed here."""
        order = json.dumps({"kind": kind, "fds": [sock.fileno() for sock in sockets], "options": options})
        self.start(role, [sys.executable, "-P", "-m", "asyncload_lib.demo.serve", order], sockets)
        for sock in sockets:
            sock.close()

    def start(self, role: str, command: list[str], sockets: Sequence[socket.socket] = ()) -> None:
        """Start a process whose output goes to `<role>.log` in the directory."""
        with (self.directory / f"{role}.log").open("wb") as log:
            self._processes[role] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=python_environment() | {"TMPDIR": str(self.directory)},
                start_new_session=True,
                pass_fds=[self._held, *(sock.fileno() for sock in sockets)],
                preexec_fn=self._set_death_signal,  # safe: no thread is running yet
            )

    def dead(self) -> list[str]:
        """Return the roles whose process has ended."""
        return [role for role, process in self._processes.items() if process.poll() is not None]

    def describe_death(self, role: str) -> str:
        """Return one line: role, process, how it ended, and the last line of its log when it ended by itself."""
        process = self._processes[role]
        who, code = f"{role} (process {process.pid})", process.returncode
        if code < 0:
            return f"{who} was ended by {signal.Signals(-code).name}"
        log = (self.directory / f"{role}.log").read_text(errors="replace").strip().splitlines()
        return f"{who} ended with exit code {code}" + (f": {log[-1].strip()}" if log else "")

    def end(self) -> None:
        """End all children, by force after `GRACE_S`, and wait until the directory is gone."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + GRACE_S
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        os.close(self._held)
        self._reaper.wait()


def python_environment() -> dict[str, str]:
    """Return the environment in which a Python process finds this package, whatever its directory is."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))}


def death_signal_setter(number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child of this process must run first, to be sent this signal when its parent ends (Linux)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def set_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # ended before the line above
            os._exit(1)

    return set_death_signal
