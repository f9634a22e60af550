"""Users that write, sync, read back and delete files in real threads."""

import asyncio
import contextlib
import hashlib
import itertools
import math
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from locust import task

from asyncload_lib.eventloop.native import native
from asyncload_lib.eventloop.thread import LoopThread
from asyncload_lib.settings import Settings
from asyncload_lib.users.base import AsyncUser
from asyncload_lib.users.ordinals import worker_index

__all__ = ["FileSpace", "FileUser", "directory_problems", "file_space"]


class FileSpace:
    """A private directory (mode 0700) for file operations, bounded in bytes and gone with the process.

    `limit_bytes`: the most it may hold at any moment; `size_bytes`: what is written at a time; equal `seed` gives equal
    contents in the same order. A tiny shell waits on a pipe and removes the directory when the pipe closes, which
    happens even if this process is killed. Raises OSError where the directory cannot be made.
    """

    FREE_SPACE_FLOOR_BYTES = 256 << 20
    FREE_SPACE_EVERY_S = 0.1
    """How often the disk is asked for its free space: after the call the loop has to wait for the GIL."""
    PREFIX_BYTES = 16
    """The part of a file's contents that differs from one file to the next."""

    def __init__(self, parent: Path | None, limit_bytes: int, size_bytes: int, seed: str = "") -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="asyncload-files-", dir=parent))
        self._limit_bytes = limit_bytes
        self._size_bytes = size_bytes
        self._used_bytes = 0
        self._free_bytes, self._asked_s = 0, -math.inf
        self._numbers = itertools.count(1)
        self._random = random.Random(seed)
        # Random bytes take milliseconds per mebibyte, too long for a loop: most of them are drawn once, for all files.
        self._rest = hashlib.shake_128(seed.encode()).digest(max(size_bytes - self.PREFIX_BYTES, 0))
        reading, self._lifeline = os.pipe()
        self._remover = subprocess.Popen(
            ["/bin/sh", "-c", 'cat >/dev/null; rm -rf -- "$1"', "asyncload-remover", str(self.directory)],
            stdin=reading,
            start_new_session=True,
        )
        os.close(reading)

    def payload(self) -> bytes:
        """Return the bytes of one operation; no two are equal."""
        return (self._random.randbytes(self.PREFIX_BYTES) + self._rest)[: self._size_bytes]

    def reserve(self, size_bytes: int) -> None:
        """Set `size_bytes` aside; raises OSError beyond the cap or where the disk is nearly full."""
        if self._used_bytes + size_bytes > self._limit_bytes:
            raise OSError(f"files.max_bytes reached: {self._limit_bytes} bytes at the same time")
        needed_bytes, now_s = self.FREE_SPACE_FLOOR_BYTES + size_bytes, time.monotonic()
        if self._free_bytes < needed_bytes or now_s - self._asked_s > self.FREE_SPACE_EVERY_S:
            self._free_bytes, self._asked_s = shutil.disk_usage(self.directory).free, now_s
        if self._free_bytes < needed_bytes:
            raise OSError("the disk is nearly full")
        self._free_bytes -= size_bytes  # an estimate, until the disk is asked again
        self._used_bytes += size_bytes

    def free(self, size_bytes: int) -> None:
        """Give back what was reserved."""
        self._used_bytes -= size_bytes

    def round_trip(self, payload: bytes) -> None:
        """Write a new file, sync it to disk, read it back, compare and delete it; raises OSError or ValueError.

        By bare system calls: a file object makes half as many again. Each call gives up the GIL, and with many threads
        that costs more than the call itself.
        """
        path = f"{self.directory}/{next(self._numbers)}.bin"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            try:
                _write(file, payload)
                os.fsync(file)
            finally:
                _close(file)
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = _read(file, len(payload) + 1)
            finally:
                _close(file)
            if found != payload:
                raise ValueError("the bytes read are not the bytes written")
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    async def close(self) -> None:
        """Remove the directory and everything in it."""
        os.close(self._lifeline)
        shutil.rmtree(self.directory, ignore_errors=True)


def directory_problems(settings: Settings) -> list[str]:
    """Say why file users cannot write where they are told to; [] if they can. Leaves nothing behind."""
    files = settings.files
    where = "files.directory is not set, and no temporary directory can be used"
    try:
        parent = files.directory or Path(tempfile.gettempdir())
        where = f"files.directory is {parent}" + ("" if files.directory else ", the temporary directory")
        with tempfile.TemporaryDirectory(prefix="asyncload-files-", dir=parent) as directory:
            free_bytes = shutil.disk_usage(directory).free
    except OSError as error:
        return [f"{where}, where nothing can be written: {error.strerror}"]
    needed_bytes = FileSpace.FREE_SPACE_FLOOR_BYTES + files.operations * files.bytes
    if free_bytes >= needed_bytes:
        return []
    return [
        f"{where}, where {free_bytes / 2**20:.0f} MiB are free; allowed is at least {needed_bytes / 2**20:.0f} MiB: "
        "what file users write, plus 256 MiB that are kept free"
    ]


_close = native("os", "close")
"""gevent's own makes two system calls first to ask about the file, and each gives up the GIL."""


def _write(file: int, content: bytes) -> None:
    """Write it all; the system may take it in pieces."""
    written = os.write(file, content)
    while written < len(content):
        written += os.write(file, memoryview(content)[written:])


def _read(file: int, limit_bytes: int) -> bytes:
    """Read to the end or to the limit; the system may give it in pieces."""
    found = os.read(file, limit_bytes)
    while len(found) < limit_bytes and (piece := os.read(file, limit_bytes - len(found))):
        found += piece
    return found


def file_space(thread: LoopThread, settings: Settings, worker: int = 0) -> FileSpace:
    """Return the process's directory for file operations, made on first use and removed with the loop.

    `worker`: which worker this process is; the contents differ from worker to worker.
    """
    resources = thread.resources
    space: FileSpace | None = resources.get(FileSpace)
    if space is None:
        files = settings.files
        space = FileSpace(files.directory, files.max_bytes, files.bytes, f"{settings.seed}/{worker}")
        resources[FileSpace] = space
    return space


class FileUser(AsyncUser):
    """One operation after another in a thread, as `asyncio.to_thread` does it; a whole round trip is one request.

    It is recorded as `FILE write+read`. Files lie in `files.directory` of the machine that generates the load.
    """

    abstract = True
    scenario = "files"

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._space = file_space(self.loop_thread, self.settings, worker_index(environment))

    @task
    async def write_and_read(self) -> None:
        await self.operation()

    async def operation(self, intended_ns: int | None = None) -> None:
        """Write, sync, read back, compare and delete a file of `files.bytes` random bytes."""
        payload = self._space.payload()
        async with self.measure("FILE", "write+read", intended_ns=intended_ns) as operation:
            operation.response_length = len(payload)
            self._space.reserve(len(payload))
            try:
                work = asyncio.get_running_loop().run_in_executor(None, self._space.round_trip, payload)
            except BaseException:  # no thread can be started
                self._space.free(len(payload))
                raise
            # Shielded: a user that is stopped leaves at once, but the bytes are set aside until the thread is done.
            work.add_done_callback(lambda _: self._space.free(len(payload)))
            await asyncio.shield(work)
