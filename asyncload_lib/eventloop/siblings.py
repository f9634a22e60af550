"""Worker processes behind one port, found and asked by whichever of them answers.

Each worker listens on a Unix socket in a private directory that all probes of one path and token share. The worker that
gets the request asks all of them, so one request reads or resets every worker. Those that listen elsewhere than where
the request came in are of another server, and stay out of it.
"""

import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .listening import listening_places
from .socket_directory import (
    SOCKET_NAME,
    forget_dead,
    identity,
    is_gone,
    make_private,
    pid_of,
    remove_left,
    socket_place,
)

__all__ = ["Siblings", "group_pid"]

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 4 << 20
RENEW_S = 5.0
"""How often a worker looks whether its socket is still there: whoever cleans up a temporary directory may remove it."""
OPEN_TRIES = 3
NO_PARENT = " (nor can the process that started this one be examined)"

Ask = Callable[[str], Awaitable[dict[str, Any]]]

_numbers = itertools.count(1)


def group_pid() -> int:
    """Return the id of the process that started all workers of this server; this one's for a server without workers.

    A worker is a child of `multiprocessing` (uvicorn, hypercorn, granian) or a fork that runs its parent's command line
    (gunicorn). This decides only where it cannot be found out who listens where.
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
    """This worker's socket, and the way to the other workers; on a system without Unix sockets there are none.

    `answer(command)` answers "report" or "reset" for this worker. `key` is the same for all probes of one service.
    """

    def __init__(self, key: str, answer: Ask) -> None:
        self._answer = answer
        self._key = key
        self._number = next(_numbers)
        self._root = self._directory = self._path = ""
        self._server: asyncio.AbstractServer | None = None
        self._identity: tuple[int, int] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._lost_until = 0.0
        """Until then (time.monotonic) other workers whose sockets were removed with this one's may still be missing."""
        self._places: frozenset[str] = frozenset()
        self.problem = "other workers cannot be read yet"

    async def open(self) -> None:
        """Listen. A directory that others could write to is not used; `problem` says so."""
        await self._try_to_listen()
        if self._server is not None:
            self._timer = asyncio.get_running_loop().call_later(RENEW_S, self._renew)

    async def _try_to_listen(self) -> None:
        try:
            for tries_left in reversed(range(OPEN_TRIES)):
                try:
                    await self._listen()
                    break
                except FileNotFoundError:  # another worker removed the empty directory when it ended
                    if not tries_left:
                        raise
        except (OSError, AttributeError, NotImplementedError) as error:
            self.problem = f"other workers cannot be read: {error}"

    async def _listen(self) -> None:
        self._root, self._directory, self._path = socket_place(self._key, self._number)
        make_private(self._root)
        forget_dead(self._root)
        make_private(self._directory)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        self._identity = identity(self._path)
        self.problem = ""

    def _renew(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(RENEW_S, self._renew)
        if not self._is_in_place():
            self._renewing = asyncio.create_task(self._open_anew(), name="loop probe")

    async def _open_anew(self) -> None:
        lost = self._server
        await self._try_to_listen()
        if lost is not None and lost is not self._server:
            lost.close()
        if self._timer is None:  # closed meanwhile
            self.close()

    def _is_in_place(self) -> bool:
        """Whether others can find this worker. If its socket was removed, those of others may have been, too."""
        if identity(self._path) == self._identity:
            return True
        self._lost_until = time.monotonic() + 2 * RENEW_S
        return False

    def look_where_it_listens(self) -> None:
        """Find out at which addresses this process serves: some 0.1 ms, and more with thousands of connections."""
        with contextlib.suppress(OSError):
            self._places = listening_places(apart_from=self._root)

    async def ask(self, command: str, port: int | None = None) -> list[dict[str, Any]]:
        """Return the answers of all other workers; a dead one is left out, a silent one is {"pid", "silent": why}.

        `port`: where the request came in. If the others cannot be asked, one entry with pid None stands for them.
        """
        if self._server is None:
            return [{"pid": None, "silent": self.problem}] if self._may_have_others() else []
        if not self._places:
            self.look_where_it_listens()
        at = [place for place in self._places if port is not None and place.endswith(f":{port:04X}")]
        question = {"command": command, "at": at or [*self._places], "is_sure": bool(at), "group": _group()}
        try:
            names = sorted(os.listdir(self._directory)) if self._is_in_place() else []
        except OSError:
            names = []
        others = [os.path.join(self._directory, name) for name in names if SOCKET_NAME.fullmatch(name)]
        asked = (self._ask_one(path, question) for path in others if path != self._path)
        answers = [answer for answer in await asyncio.gather(*asked) if answer is not None]
        if time.monotonic() < self._lost_until:
            why = (
                f"sockets of the workers were removed from {self._directory}; it takes {2 * RENEW_S:g} s to renew them"
            )
            answers.append({"pid": None, "silent": why})
        return answers

    def close(self) -> None:
        """Stop listening and leave nothing behind."""
        if self._server is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._server.close()
        self._server = None
        if identity(self._path) == self._identity:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        for directory in (self._directory, self._root):
            with contextlib.suppress(OSError):  # others still use it
                os.rmdir(directory)

    async def _ask_one(self, path: str, question: dict[str, Any]) -> dict[str, Any] | None:
        pid, why = pid_of(path), ""
        try:
            if not is_gone(pid):  # else a child that it forked may still hold its socket
                async with asyncio.timeout(TIMEOUT_S):
                    return await _answer_of(path, question)
        except (ConnectionRefusedError, FileNotFoundError):
            pass
        except (OSError, TimeoutError, ValueError) as error:
            why = f"worker {pid} did not answer: {error!r}"
        if why and not is_gone(pid):
            return None if _serves_elsewhere(pid, question) else {"pid": pid, "silent": why}
        remove_left(path)
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = json.loads(await reader.readline())
            answer = await self._answer(question["command"]) if self._is_asked(question) else None
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            pass  # the sibling that asked is gone
        finally:
            writer.close()

    def _is_asked(self, question: dict[str, Any]) -> bool:
        """Whether this worker serves where the request came in; if that is unknown, whether both are of one group."""
        if self._places.isdisjoint(question["at"]):
            self.look_where_it_listens()
        if not self._places.isdisjoint(question["at"]):
            return True
        return not (question["is_sure"] and self._places) and bool(question["group"] == _group())

    def _may_have_others(self) -> bool:
        """Whether other processes may serve where this one does, judged by the process that started it."""
        parent = os.getppid()
        if group_pid() != os.getpid():
            return True
        if parent <= 1 or not os.path.isdir("/proc/self"):
            return False
        self.look_where_it_listens()
        try:
            return not self._places.isdisjoint(listening_places(parent))
        except OSError:
            self.problem = self.problem.removesuffix(NO_PARENT) + NO_PARENT  # said once, however often it is asked
            return True


async def _answer_of(path: str, question: dict[str, Any]) -> dict[str, Any] | None:
    reader, writer = await asyncio.open_unix_connection(path, limit=MAX_ANSWER_BYTES)
    try:
        writer.write(json.dumps(question).encode() + b"\n")
        answer: dict[str, Any] | None = json.loads(await reader.readline())
        return answer
    finally:
        writer.close()


def _serves_elsewhere(pid: int, question: dict[str, Any]) -> bool:
    """Whether a process that does not answer is known to be of another server."""
    try:
        places = listening_places(pid)
    except OSError:
        return False
    return question["is_sure"] and bool(places) and places.isdisjoint(question["at"])


def _group() -> str:
    return f"{group_pid()} {sys.argv}"
