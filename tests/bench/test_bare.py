import os
import sys
from pathlib import Path

import pytest

from bench.generators import BARE
from bench.processes import Process, wait_until
from bench.shared_count import SharedCount


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark measures on Linux")
def test_files_left_by_a_killed_round_do_not_end_the_next_one(tmp_path: Path) -> None:
    kept, count = tmp_path / "files", SharedCount(tmp_path / "count")
    kept.mkdir()
    command = [sys.executable, str(BARE / "asyncio_files.py"), str(kept), "25", "65536"]
    environment = {"BENCH_COUNT": str(count.path)}
    while not os.listdir(kept):
        with Process(command, tmp_path, environment):
            wait_until(lambda: count.read() and os.listdir(kept), "no file")
    reached = count.read()

    with Process(command, tmp_path, environment) as process:
        wait_until(lambda: count.read() > 2 * reached + 25 or not process.running, "no more files")
        assert process.running, process.complaint()
