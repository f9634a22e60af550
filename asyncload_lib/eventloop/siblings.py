"""Worker processes behind one port, found and asked by whichever of them answers.

Each worker listens on a Unix socket in a private directory that it shares with its siblings. The worker that gets the
request asks all of them, so one request reads or resets every worker.
"""

import asyncio
import contextlib
import hashlib
import json
import multiprocessing
import os
import stat
import sys
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["Siblings", "group_pid"]

TIMEOUT_S = 5.0
MAX_SOCKET_PATH = 100
"""Systems allow 104 to 108 bytes: a deep TMPDIR leaves no room."""
MAX_ANSWER_BYTES = 4 << 20

Ask = Callable[[str], Awaitable[dict[str, Any]]]


def group_pid() -> int:
    """Process that the workers of this server have in common; the own one for a server without workers.

    A worker is a child of `multiprocessing` (uvicorn, hypercorn, granian) or a fork that runs its parent's command line
    (gunicorn).
    """
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        return parent.pid
    try:
        with open(f"/proc/{os.getppid()}/cmdline", "rb") as theirs, open("/proc/self/cmdline", "rb") as mine:
            return os.getppid() if mine.read() == theirs.read() else os.getpid()
    except OSError:
        return os.getpid()


class Siblings:
    """This worker's socket and the way to the others; on a system without Unix sockets there are no others.

    `answer(command)` answers "report" or "reset" for this worker. `key` tells servers apart that one process started.
    """

    def __init__(self, key: str, answer: Ask) -> None:
        self._answer = answer
        digest = hashlib.sha256(f"{group_pid()} {sys.argv} {key}".encode()).hexdigest()[:16]
        uid = os.getuid() if hasattr(os, "getuid") else 0
        for place in (tempfile.gettempdir(), "/tmp"):
            self._root = os.path.join(place, f"asyncload-{uid}")
            self._directory = os.path.join(self._root, f"{group_pid()}-{digest}")
            self._path = os.path.join(self._directory, f"{os.getpid()}.sock")
            if len(self._path) <= MAX_SOCKET_PATH:
                break
        self._server: asyncio.AbstractServer | None = None
        self.problem = ""

    async def open(self) -> None:
        """Listen. A directory that others could write to is not used; `problem` says so."""
        try:
            for directory in (self._root, self._directory):
                _private(directory)
            _forget_dead_groups(self._root)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._server = await asyncio.start_unix_server(self._serve, self._path)
        except (OSError, AttributeError, NotImplementedError) as error:
            self.problem = f"other workers cannot be read: {error}"

    async def ask(self, command: str) -> list[dict[str, Any]]:
        """Answers of all other workers; a dead one is forgotten, a silent one is {"pid", "silent": why}.

        Where the others cannot be asked at all, one such entry without a pid stands for them.
        """
        if self._server is None:
            return [{"pid": None, "silent": self.problem}] if group_pid() != os.getpid() else []
        try:
            names = sorted(os.listdir(self._directory))
        except OSError:
            names = []
        others = [os.path.join(self._directory, name) for name in names if name.endswith(".sock")]
        answers = await asyncio.gather(*(self._ask_one(path, command) for path in others if path != self._path))
        return [answer for answer in answers if answer is not None]

    def close(self) -> None:
        """Stop listening and leave nothing behind."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        for directory in (self._directory, self._root):
            with contextlib.suppress(OSError):  # siblings still use it
                os.rmdir(directory)

    async def _ask_one(self, path: str, command: str) -> dict[str, Any] | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ANSWER_BYTES)
                try:
                    writer.write(command.encode() + b"\n")
                    answer: dict[str, Any] = json.loads(await reader.readline())
                    return answer
                finally:
                    writer.close()
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(OSError):
                os.unlink(path)
        except (OSError, TimeoutError, ValueError) as error:
            pid = os.path.basename(path).removesuffix(".sock")
            return {"pid": int(pid), "silent": f"worker {pid} did not answer: {error!r}"}
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            command = (await reader.readline()).decode().strip()
            writer.write(json.dumps(await self._answer(command)).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            pass  # the sibling that asked is gone
        finally:
            writer.close()


def _private(directory: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{directory} is not a private directory of this user")


def _forget_dead_groups(root: str) -> None:
    for name in os.listdir(root):
        pid = name.partition("-")[0]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}") and os.path.isdir("/proc/self"):
            directory = os.path.join(root, name)
            with contextlib.suppress(OSError):
                for leftover in os.listdir(directory):
                    os.unlink(os.path.join(directory, leftover))
                os.rmdir(directory)
