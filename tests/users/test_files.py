"""File users stay in their directory and within their bounds, and leave nothing behind."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
from locust import task
from locust.exception import StopUser

from asyncload_lib.eventloop.native import native
from asyncload_lib.eventloop.pool import PoolLoop
from asyncload_lib.settings import Settings
from asyncload_lib.users import files
from asyncload_lib.users.base import loop_thread
from asyncload_lib.users.files import FileSpace, FileUser, directory_problems, file_space
from tests.users.swarm import Swarm, eventually

DEFAULT = Settings()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """A file space is made once per loop: each test needs a loop of its own."""
    loop_thread().close()
    yield
    loop_thread().close()


def with_files(directory: Path, **options: Any) -> Settings:
    return replace(DEFAULT, files=replace(DEFAULT.files, directory=directory, **options))


def person(given: Settings, operations: int = 1) -> type[FileUser]:
    class Person(FileUser):
        settings = given

        @task
        async def work(self) -> None:
            for _ in range(operations):
                await self.operation()
            raise StopUser

    Person.tasks = [Person.work]
    return Person


def test_a_round_trip_writes_syncs_reads_compares_and_deletes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    written: list[bytes] = []
    fsync, read = os.fsync, files._read

    def note_fsync(number: int) -> None:
        synced.append(os.fstat(number).st_size)
        fsync(number)

    def note_read(file: int, limit_bytes: int) -> bytes:
        content = read(file, limit_bytes)
        written.append(content)
        path = Path(f"/proc/self/fd/{file}").readlink()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        return content

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(files, "_read", note_read)
    with Swarm(person(with_files(tmp_path, bytes=5000), 4)) as swarm:
        swarm.run(5)
        (directory,) = tmp_path.iterdir()
        assert list(directory.iterdir()) == []
    assert swarm.failures == []
    assert [event["response_length"] for event in swarm.requests] == [5000] * 20
    assert synced == [5000] * 20
    assert len(set(written)) == 20
    loop_thread().close()
    assert list(tmp_path.iterdir()) == []


def test_what_the_system_takes_and_gives_in_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = os.write, os.read
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:7]))
    monkeypatch.setattr(os, "read", lambda file, size_bytes: read(file, min(size_bytes, 7)))
    with Swarm(person(with_files(tmp_path, bytes=100))) as swarm:
        swarm.run()
    assert swarm.failures == []
    assert [event["response_length"] for event in swarm.requests] == [100]


@pytest.mark.parametrize("size_bytes", [1, 15, 16, 17, 100])
def test_payloads_have_their_size(tmp_path: Path, size_bytes: int) -> None:
    space = FileSpace(tmp_path, 1000, size_bytes)
    assert len(space.payload()) == size_bytes
    loop_thread().start()
    loop_thread().call(space.close())


def test_the_seed_settles_what_is_written(tmp_path: Path) -> None:
    def written(seed: str) -> list[bytes]:
        space = FileSpace(tmp_path, 1000, 100, seed)
        payloads = [space.payload() for _ in range(10)]
        loop_thread().call(space.close())
        return payloads

    loop_thread().start()
    assert written("1/0") == written("1/0")
    assert len({*written("1/0"), *written("1/1"), *written("2/0")}) == 30


@pytest.mark.parametrize("damage", ["content", "gone"])
def test_what_is_not_read_back_is_a_failure(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, fsync = files._read, os.fsync

    def remove(file: int) -> None:
        fsync(file)
        Path(f"/proc/self/fd/{file}").readlink().unlink()

    if damage == "gone":
        monkeypatch.setattr(os, "fsync", remove)
    else:
        monkeypatch.setattr(files, "_read", lambda file, limit_bytes: read(file, limit_bytes)[:-1])
    with Swarm(person(with_files(tmp_path))) as swarm:
        swarm.run()
    assert [type(event["exception"]).__name__ for event in swarm.requests] == [
        "ValueError" if damage == "content" else "FileNotFoundError"
    ]
    assert list(next(tmp_path.iterdir()).iterdir()) == []


@pytest.mark.chance
def test_the_cap_holds_for_all_files_together_even_those_of_stopped_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = native("threading", "Event")()
    inside: list[int] = []
    original = FileSpace.round_trip

    def slow(space: FileSpace, payload: bytes) -> None:
        inside.append(1)
        release.wait(20)
        original(space, payload)

    monkeypatch.setattr(FileSpace, "round_trip", slow)
    settings = with_files(tmp_path, bytes=1000, max_bytes=3500)
    with Swarm(person(settings), stop_timeout=0) as swarm:
        swarm.start(5)
        eventually(lambda: len(inside) == 3 and len(swarm.failures) == 2)
        assert swarm.failures == ["files.max_bytes reached: 3500 bytes at the same time"] * 2
        assert swarm.stop() < 1  # at once, while the threads still work
        assert len(swarm.abandoned) == 3
        swarm.run()  # the bytes of those that are gone are still set aside
        assert len(swarm.failures) == 3
        release.set()
        eventually(lambda: file_space(loop_thread(), settings)._used_bytes == 0)
        swarm.run(3)
    assert len([event for event in swarm.requests if event["exception"] is None]) == 3


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileSpace, "FREE_SPACE_FLOOR_BYTES", 1 << 62)
    with Swarm(person(with_files(tmp_path))) as swarm:
        swarm.run()
    assert swarm.failures == ["the disk is nearly full"]


def test_a_disk_without_room_for_all_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_files(tmp_path, bytes=1 << 20, operations=4)
    assert directory_problems(settings) == []
    needed = FileSpace.FREE_SPACE_FLOOR_BYTES + (4 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 0, needed - (1 << 20)))
    (problem,) = directory_problems(settings)
    assert problem.startswith(f"files.directory is {tmp_path}, where 259 MiB are free; allowed is at least 260 MiB")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    (problem,) = directory_problems(Settings())
    assert problem == "files.directory is /nowhere, the temporary directory, where nothing can be written: " + (
        "No such file or directory"
    )


def test_what_was_written_since_the_disk_was_asked_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Any:
        asked.append(path)
        return shutil._ntuple_diskusage(1 << 40, 0, FileSpace.FREE_SPACE_FLOOR_BYTES + 2_500)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    space = FileSpace(tmp_path, 1 << 30, 1_000)
    monkeypatch.setattr(space, "FREE_SPACE_EVERY_S", 60.0)
    for _ in range(2):
        space.reserve(1_000)
    assert len(asked) == 1
    space.reserve(1_000)  # beyond what it knew of: asked again
    assert len(asked) == 2
    with pytest.raises(OSError, match="nearly full"):
        space.reserve(2_600)
    asyncio.run(space.close())


def test_a_thread_that_cannot_be_started_keeps_no_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("can't start new thread")

    given = with_files(tmp_path)
    with Swarm(person(given)) as swarm:
        monkeypatch.setattr(PoolLoop, "run_in_executor", refuse)
        swarm.run()
        assert swarm.failures == ["can't start new thread"]
        assert file_space(loop_thread(), given)._used_bytes == 0
        monkeypatch.undo()


def test_a_directory_that_cannot_be_made_stops_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        FileSpace(tmp_path / "missing", 1000, 10)


def test_files_are_touched_by_threads_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idents: set[int] = set()
    inside = 0
    most = 0
    original = FileSpace.round_trip

    def note(space: FileSpace, payload: bytes) -> None:
        nonlocal inside, most
        idents.add(native("threading", "get_ident")())
        inside += 1
        most = max(most, inside)
        native("time", "sleep")(0.05)
        original(space, payload)
        inside -= 1

    monkeypatch.setattr(FileSpace, "round_trip", note)
    with Swarm(person(with_files(tmp_path, bytes=1000), 3)) as swarm:
        swarm.run(10)
    assert swarm.failures == []
    assert most > 5
    assert loop_thread().native_id not in idents
    assert native("threading", "get_ident")() not in idents


def test_random_stops_leave_no_file_and_no_byte_set_aside(tmp_path: Path) -> None:
    settings = with_files(tmp_path, bytes=20_000)

    class Person(FileUser):
        pass

    Person.settings = settings
    with Swarm(Person, stop_timeout=0) as swarm:
        for _ in range(5):
            swarm.start(10)
            gevent.sleep(0.03)
            swarm.stop()
        space = file_space(loop_thread(), settings)
        eventually(lambda: space._used_bytes == 0)
        assert list(space.directory.iterdir()) == []
    assert swarm.failures == []
    loop_thread().close()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, locust, gevent
from pathlib import Path
from asyncload_lib.users.files import FileSpace
space = FileSpace(Path(sys.argv[1]), 10_000, 100)
(space.directory / "left.bin").write_bytes(b"x")
print("ready", flush=True)
gevent.sleep(100)
"""


@pytest.mark.chance
def test_nothing_is_left_of_a_killed_process(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert len(list(tmp_path.rglob("left.bin"))) == 1
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    eventually(lambda: not list(tmp_path.iterdir()))
