import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.logged_process import LEAN_PYTEST

pytestmark = pytest.mark.chance

ROOT = Path(__file__).resolve().parents[2]

BLOCKED = """
import asyncio, threading, time

async def blocking():
    time.sleep(0.06)

def test_asyncio(loop_must_not_block):
    asyncio.run(blocking())

def test_uvloop(loop_must_not_block):
    import uvloop
    uvloop.run(blocking())

def test_a_loop_in_a_thread_that_still_runs(loop_must_not_block):
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(blocking(), loop).result()

def test_unwatched():
    asyncio.run(blocking())

def test_without_proof(loop_must_not_block, monkeypatch):
    monkeypatch.setattr("asyncload_lib.eventloop.heartbeat.Watchdog._look", lambda *_: 1 / 0)
    asyncio.run(blocking())

def test_clean(loop_must_not_block):
    asyncio.run(asyncio.sleep(0.05))
    assert [monitor.report()["blocked"] for monitor in loop_must_not_block.monitors].count(False) > 0
"""


UNWATCHED = """
import asyncio, gc, os, threading, time
import pytest

watched = []

async def blocking():
    time.sleep(0.06)

def test_undone(loop_must_not_block, monkeypatch):
    monkeypatch.setattr("os.sep", "/")
    monkeypatch.undo()
    asyncio.run(blocking())

def test_no_loop(loop_must_not_block):
    time.sleep(0.06)

def test_one_that_runs_already(loop_must_not_block):
    async def main():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop().run_forever()
    asyncio.run(main())

@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_closed(loop_must_not_block, kind):
    loop = pytest.importorskip(kind).new_event_loop()
    loop.close()
    listeners, files = len(gc.callbacks), os.listdir("/proc/self/fd")
    with pytest.raises(RuntimeError, match="closed"):
        loop.run_forever()
    assert len(gc.callbacks) == listeners
    while len(os.listdir("/proc/self/fd")) > len(files):  # the watchdog closes its own
        pass
    asyncio.run(asyncio.sleep(0))

@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.call_soon_threadsafe(loop.stop)

def test_begins_a_loop_for_all(loop_must_not_block, loop):
    threading.Thread(target=loop.run_forever, daemon=True).start()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), loop).result()
    (monitor,) = loop_must_not_block.monitors
    assert monitor.running
    watched.append(monitor)

def test_after_it(loop):
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), loop).result()
    assert [monitor.running for monitor in watched] == [False]

def test_skipped(loop_must_not_block):
    pytest.skip("not here")

def test_failed(loop_must_not_block):
    assert not "its own word"
"""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "asyncload_lib.eventloop.pytest_plugin", "-p", "no:cacheprovider"]
    environment = {**os.environ, **LEAN_PYTEST}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60, check=False
    )


def test_a_test_that_blocks_its_loop_fails_and_names_the_line(tmp_path: Path) -> None:
    test = tmp_path / "test_blocked.py"
    test.write_text(BLOCKED)

    done = run(test, "--rootdir", tmp_path, "-c", "/dev/null")

    assert done.returncode == 1
    # pytest reports what a fixture finds at its end as an error
    assert "6 passed" in done.stdout, done.stdout
    assert "4 errors" in done.stdout
    # what stands below it repeats as much of each error as there is room for, or, where `CI` is set, all of it
    errors, _, summary = done.stdout.partition("short test summary")
    assert errors.count("the event loop was blocked 1 time for 10 ms or more") == 3
    assert errors.count("test_blocked.py:5 in blocking: time.sleep(0.06)") == 3
    assert "it is not proven that the event loop was not blocked: The watchdog ended early" in errors
    assert "test_clean" not in summary


def test_a_test_whose_loop_is_not_watched_fails(tmp_path: Path) -> None:
    test = tmp_path / "test_unwatched.py"
    test.write_text(UNWATCHED)

    done = run(test, "--rootdir", tmp_path, "-c", "/dev/null")

    assert "1 failed, 7 passed, 1 skipped, 2 errors" in done.stdout, done.stdout
    errors, _, _ = done.stdout.partition("short test summary")
    assert "test_unwatched.py:8 in blocking: time.sleep(0.06)" in errors
    assert errors.count("was not blocked: no loop of asyncio or uvloop began to run in this test") == 1
    assert "ERROR at teardown of test_no_loop" in errors


def test_a_mark_that_is_no_limit_is_refused(tmp_path: Path) -> None:
    limits = ["", "'20ms'", "0.02, 0.03", "seconds=0.02", "20", "0.001", "True", "float('nan')"]
    test = tmp_path / "test_marked.py"
    marked = "@pytest.mark.loop_limit({})\ndef test_{}(loop_must_not_block): pass\n"
    test.write_text("import pytest\n" + "".join(marked.format(limit, at) for at, limit in enumerate(limits)))

    done = run(test, "--rootdir", tmp_path, "-c", "/dev/null")

    assert f"{len(limits)} errors" in done.stdout
    for limit in limits:
        given = limit.replace("float('nan')", "nan")
        assert f"loop_limit({given}): allowed is one number of seconds from 0.005 to 10" in done.stdout, done.stdout


def test_the_example_runs() -> None:
    assert hashlib.sha256(b"x" * 10_000_000).hexdigest().startswith("0c9a")

    done = run(Path(__file__).with_name("example_must_not_block.py"))

    assert "2 passed" in done.stdout, done.stdout
