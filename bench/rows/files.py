"""Files of 64 KiB, 25 users: write, fsync, read back, compare, delete, in threads."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.contest import Bench, window
from bench.generators import FOREVER_S, bare, locust
from bench.model import Column, Figures, Goal, Table
from bench.processes import Process
from bench.shared_count import SharedCount

__all__ = ["files"]

USERS = 25
SIZE_BYTES = 65536
COLUMNS = [Column("rate", "round trips/s"), Column("cpu_us", "us of generator CPU per round trip")]
DISK = Path("/var/tmp")
MEMORY = Path("/dev/shm")


def files(bench: Bench, limit_s: float) -> list[Table]:
    """Compare on a disk, where fsync decides, and in memory, where the overhead does."""
    places = {"disk": DISK, "memory": MEMORY}
    there = {name: path for name, path in places.items() if path.is_dir()}
    return [_table(bench, name, path, limit_s / len(there)) for name, path in there.items()]


def _table(bench: Bench, place: str, parent: Path, limit_s: float) -> Table:
    table = Table(
        f"files-{place}",
        f"Files of 64 KiB, 25 users, {place} ({parent})",
        COLUMNS,
        "asyncio + uvloop, bare",
        [Goal("asyncload", "rate", ">=", 0.95, "asyncio + uvloop, bare")],
        ["fio: 25 jobs that write, fsync and unlink files of this size; it neither reads back nor compares"],
    )
    with tempfile.TemporaryDirectory(prefix="asyncload-bench-", dir=parent) as directory:
        contenders = {
            "asyncload": _counted(bench, lambda count: _asyncload(bench, directory, count)),
            "asyncio + uvloop, bare": _counted(bench, lambda count: _bare(bench, directory, count)),
            "fio": lambda: _fio(bench, Path(directory)),
        }
        return bench.interleave(table, contenders, rounds=1 if bench.quick else 3, limit_s=limit_s)


def _counted(bench: Bench, start: Callable[[dict[str, str]], Process]) -> Callable[[], Figures]:
    def measure() -> Figures:
        path = bench.directory / "round_trips"
        path.unlink(missing_ok=True)
        count = SharedCount(path)
        with start({"BENCH_COUNT": str(path)}) as process:
            return window(process, count.read, bench.window_s)

    return measure


def _asyncload(bench: Bench, directory: str, count: dict[str, str]) -> Process:
    settings = {"ASYNCLOAD_FILES_DIRECTORY": directory, "ASYNCLOAD_FILES_BYTES": str(SIZE_BYTES)}
    return locust(
        bench, "asyncload_files.py", "http://127.0.0.1:9", USERS, environment={**settings, **count}, core=None
    )


def _bare(bench: Bench, directory: str, count: dict[str, str]) -> Process:
    return bare(bench, "asyncio_files.py", directory, USERS, SIZE_BYTES, environment=count, core=None)


def _fio(bench: Bench, directory: Path) -> Figures:
    """Return what fio reports: its own end is the end of the measurement."""
    seconds = max(int(bench.window_s), 2)
    options = {
        "name": "round-trip", "directory": directory, "rw": "write", "bs": SIZE_BYTES, "filesize": SIZE_BYTES,
        "nrfiles": 50, "openfiles": 1, "file_service_type": "sequential", "ioengine": "sync", "fsync_on_close": 1,
        "create_on_open": 1, "unlink_each_loop": 1, "numjobs": USERS, "group_reporting": 1, "time_based": 1,
        "runtime": seconds, "loops": 1_000_000, "output-format": "terse", "thread": 1,
    }  # fmt: skip
    command: list[str | Path] = [bench.peers.get("fio"), *(f"--{name}={value}" for name, value in options.items())]
    with Process(command, bench.directory) as process:
        if process.wait(FOREVER_S) != 0:
            raise ValueError(process.complaint())
        lines = [line for line in process.output.splitlines() if line.count(";") > 100]
    written_kb, seconds_ms = (float(lines[-1].split(";")[column]) for column in (46, 49))
    return {"rate": written_kb / (SIZE_BYTES / 1024) / (seconds_ms / 1e3)}
