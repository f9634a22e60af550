import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.chance

ROOT = Path(__file__).resolve().parents[2]

BLOCKED = """
import asyncio, time, uvloop

async def blocking():
    time.sleep(0.06)

def test_asyncio(loop_must_not_block):
    asyncio.run(blocking())

def test_uvloop(loop_must_not_block):
    uvloop.run(blocking())

def test_unwatched():
    asyncio.run(blocking())

def test_clean(loop_must_not_block):
    asyncio.run(asyncio.sleep(0.05))
    assert len(loop_must_not_block.reports) > 0
"""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "asyncload_lib.eventloop.pytest_plugin", "-p", "no:cacheprovider"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_a_test_that_blocks_its_loop_fails_and_names_the_line(tmp_path: Path) -> None:
    test = tmp_path / "test_blocked.py"
    test.write_text(BLOCKED)

    done = run(test, "--rootdir", tmp_path, "-c", "/dev/null")

    assert done.returncode == 1
    assert "4 passed, 2 errors" in done.stdout, (
        done.stdout
    )  # pytest reports what a fixture finds at its end as an error
    assert done.stdout.count("test_blocked.py:5 in blocking: time.sleep(0.06)") >= 2
    assert "test_clean" not in done.stdout.partition("short test summary")[2]


def test_the_example_runs() -> None:
    assert hashlib.sha256(b"x" * 10_000_000).hexdigest().startswith("0c9a")

    done = run(Path(__file__).with_name("example_must_not_block.py"))

    assert "2 passed" in done.stdout, done.stdout
