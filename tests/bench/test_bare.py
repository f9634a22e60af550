import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.generators import BARE
from bench.processes import ROOT, Process, wait_until
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


@pytest.mark.parametrize(
    "program", ["aiohttp_chat", "asyncio_files", "asyncio_redis", "protocol_chat", "pyreqwest_chat"]
)
def test_a_bare_program_collects_garbage_as_asyncload_does(tmp_path: Path, program: str) -> None:
    probe = tmp_path / "probe.py"
    probe.write_text(PROBE)
    command = [sys.executable, str(probe), str(BARE / f"{program}.py"), "http://127.0.0.1:9/", "1", "1"]
    environment = {"PYTHONPATH": str(ROOT), "BENCH_COUNT": str(tmp_path / "count")}

    said = subprocess.run(command, env={**os.environ, **environment}, check=True, capture_output=True, text=True).stdout

    threshold, frozen = said.split()
    participant = (ROOT / "asyncload_lib" / "run" / "participant.py").read_text()  # importing it imports Locust
    assert f"YOUNG_OBJECTS = {int(threshold):_}\n" in participant
    assert int(frozen) > 0


PROBE = """
import gc, runpy, sys, unittest.mock
import uvloop

def run(main):
    main.close()
    print(gc.get_threshold()[0], gc.get_freeze_count())

uvloop.run = run
sys.modules["aiohttp"] = unittest.mock.Mock()  # lives in the peers' environment
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0])
"""
