"""Where a loop can be held up besides in a callback's own lines; each in a process of its own, on asyncio's loop."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.chance

ROOT = Path(__file__).resolve().parents[2]

PREAMBLE = """
    import asyncio, gc, json, os, signal, sys, tempfile, threading, time
    import uvloop
    from asyncload_lib.eventloop.lag import LoopMonitor

    class Finalized:
        def __del__(self):
            time.sleep(0.06)  # blocks

    def busy(seconds):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    def watch(prepare, times=5, run=asyncio.run, pause=0.03):
        async def main():
            async with LoopMonitor() as monitor:
                await asyncio.sleep(0.3)
                for _ in range(times):
                    prepare()
                    await asyncio.sleep(pause)
                return monitor.report()
        return run(main())

    def soon(*what):
        asyncio.get_running_loop().call_soon(*what)
"""


def told(script: str) -> dict[str, Any]:
    """Run the script, which prints a report; return it with the line of each culprit's source beside it."""
    source = textwrap.dedent(PREAMBLE) + textwrap.dedent(script)
    command = [sys.executable, "-c", source]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    report: dict[str, Any] = json.loads(ran.stdout)
    lines = source.splitlines()
    for culprit in report["culprits"]:
        culprit["source"] = lines[culprit["line"] - 1].strip() if culprit["file"] == "<string>" else culprit["call"]
    return report


BLOCKING = {
    "a function in C that the loop calls itself": (
        "print(json.dumps(watch(lambda: soon(time.sleep, 0.06))))",
        "self._context.run(self._callback, *self._args)",
    ),
    "a finalizer of what a callback was given": (
        "print(json.dumps(watch(lambda: soon(lambda thing: None, Finalized()))))",
        "time.sleep(0.06)  # blocks",
    ),
    "a handler of a signal, while the loop waits": (
        """
        signal.signal(signal.SIGALRM, lambda *_: time.sleep(0.06))  # blocks
        print(json.dumps(watch(lambda: signal.setitimer(signal.ITIMER_REAL, 0.01), pause=0.1)))
        """,
        "signal.signal(signal.SIGALRM, lambda *_: time.sleep(0.06))  # blocks",
    ),
    "a finalizer that a young collection calls": (
        """
        def cycle():
            thing = Finalized()
            thing.itself = thing
        def leave():
            gc.collect()
            cycle()
            gc.collect(0)
        print(json.dumps(watch(leave)))
        """,
        "time.sleep(0.06)  # blocks",
    ),
    "a C call that keeps the GIL, under a long switch interval": (
        """
        sys.setswitchinterval(0.05)
        text = json.dumps([[1, 2.5]] * 150_000)
        def load():
            json.loads(text)  # blocks
        print(json.dumps(watch(lambda: soon(load))))
        """,
        "json.loads(text)  # blocks",
    ),
    "a greenlet within a callback": (
        """
        import greenlet
        def inside():
            time.sleep(0.06)  # blocks
        print(json.dumps(watch(lambda: soon(lambda: greenlet.greenlet(inside).switch()))))
        """,
        "time.sleep(0.06)  # blocks",
    ),
    "a greenlet that a library has put into a callback": (
        """
        import greenlet, random
        def query():
            greenlet.greenlet(random.choices).switch(range(10), k=300_000)  # blocks
        print(json.dumps(watch(lambda: soon(query))))
        """,
        "greenlet.greenlet(random.choices).switch(range(10), k=300_000)  # blocks",
    ),
    "a working directory that is gone": (
        """
        gone = tempfile.mkdtemp()
        os.chdir(gone)
        os.rmdir(gone)
        def block():
            time.sleep(0.06)  # blocks
        print(json.dumps(watch(lambda: soon(block))))
        """,
        "time.sleep(0.06)  # blocks",
    ),
}


@pytest.mark.parametrize(("script", "line"), BLOCKING.values(), ids=BLOCKING)
def test_what_blocks_in_an_odd_place_is_found_with_its_line(script: str, line: str) -> None:
    report = told(script)
    assert report["blocked"] is True, report
    assert report["by_cause"]["loop"]["stalls"] >= 3
    assert {culprit["source"] for culprit in report["culprits"] if culprit["cause"] == "loop"} == {line}


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
@pytest.mark.parametrize("call", ["sum(range(2_000_000))", "re.match('(a+)+b', 'a' * 22)", "json.loads(text)"])
def test_what_blocks_again_as_soon_as_the_loop_has_beaten_is_found_again(call: str, run: str) -> None:
    report = told(f"""
        import re
        text = json.dumps([[1, 2.5]] * 150_000)
        def load():
            {call}  # blocks
        print(json.dumps(watch(lambda: soon(load), times=10, run={run})))
    """)
    assert report["by_cause"]["loop"]["stalls"] >= 9, report
    assert {culprit["source"] for culprit in report["culprits"]} == {f"{call}  # blocks"}


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
def test_calls_that_collect_do_not_excuse_each_other(run: str) -> None:
    """Ten of them in one turn of the loop collect for longer than any of them computes."""
    report = told(f"""
        text = json.dumps([{{"id": at, "tags": ["a", "b"]}} for at in range(100_000)])
        kept = [json.loads(text) for _ in range(3)]
        async def handler(begin):
            await begin.wait()
            json.loads(text)  # blocks
        async def main():
            async with LoopMonitor() as monitor:
                begin = asyncio.Event()
                handlers = [asyncio.create_task(handler(begin)) for _ in range(10)]
                await asyncio.sleep(0.3)
                begin.set()
                await asyncio.gather(*handlers)
                await asyncio.sleep(0.1)
                return monitor.report()
        print(json.dumps({run}(main())))
    """)
    assert report["by_cause"]["loop"]["stalls"] >= 9, report
    assert {culprit["source"] for culprit in report["culprits"]} == {"json.loads(text)  # blocks"}


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
def test_steps_of_one_task_that_each_block_are_all_found(run: str) -> None:
    report = told(f"""
        import re
        evil = re.compile("(a+)+$")
        async def main():
            async with LoopMonitor() as monitor:
                await asyncio.sleep(0.3)
                for step in range(20):
                    evil.match("a" * 20 + "b")  # blocks
                    await asyncio.sleep(0)
                await asyncio.sleep(0.1)
                return monitor.report()
        print(json.dumps({run}(main())))
    """)
    assert report["by_cause"]["loop"]["stalls"] >= 18, report
    assert {culprit["source"] for culprit in report["culprits"]} == {'evil.match("a" * 20 + "b")  # blocks'}


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
@pytest.mark.parametrize("others", ["", "threading.Thread(target=threading.Event().wait, daemon=True).start();"])
def test_two_callbacks_under_the_limit_are_not_one_over_it(run: str, others: str) -> None:
    report = told(f"""
        import itertools
        {others}
        durations = itertools.cycle((0.007, 0.0055))
        def two():
            duration = next(durations)
            soon(busy, duration), soon(busy, duration)
        print(json.dumps(watch(two, times=50, run={run}, pause=0.018)))
    """)
    assert report["lag"]["max"] > 0.009
    assert report["by_cause"]["loop"]["stalls"] <= 5, report["culprits"]  # a loaded machine may stretch one over it


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
def test_steps_of_one_task_are_not_one_callback(run: str) -> None:
    report = told(f"""
        async def main():
            async with LoopMonitor() as monitor:
                await asyncio.sleep(0.3)
                for step in range(1, 101):
                    busy(0.007)
                    await asyncio.sleep(0 if step % 10 else 0.1)
                return monitor.report()
        print(json.dumps({run}(main())))
    """)
    assert report["by_cause"]["loop"]["stalls"] <= 5, report["culprits"]


def test_a_loop_that_does_not_run_or_is_closed_is_not_looked_at() -> None:
    report = told("""
        loop, monitor = asyncio.new_event_loop(), LoopMonitor()
        async def begin():
            monitor.start()
            await asyncio.sleep(0.1)
        loop.run_until_complete(begin())
        time.sleep(0.3)
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()
        time.sleep(0.3)
        print(json.dumps(monitor.report()))
    """)
    assert report["blocked"] is False
    assert report["culprits"] == []


def test_a_child_that_is_forked_amid_a_look_collects_garbage() -> None:
    report = told("""
        from asyncload_lib.eventloop.frame_safety import uncollected
        with uncollected:
            reader, writer = os.pipe()
            if not os.fork():
                os.write(writer, b"%d" % gc.isenabled())
                os._exit(0)
            told = os.read(reader, 1)
        os.wait()
        print(json.dumps({"child": told == b"1", "parent": gc.isenabled(), "culprits": []}))
    """)
    assert (report["child"], report["parent"]) == (True, True)


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
def test_what_a_callback_leaves_to_be_freed_is_not_laid_to_the_one_behind_it(run: str) -> None:
    """The result of a thread's work is dropped with the last handle that knew its future."""
    report = told(f"""
        text = json.dumps([{{"id": at, "name": "x" * 40, "tags": ["a", "b"]}} for at in range(250_000)])
        async def serve(pool):
            while True:
                item = await pool.get()
                await asyncio.sleep(0.001)
                pool.put_nowait(item)
        async def main():
            gc.disable()
            pool = asyncio.Queue()
            for item in range(3):
                pool.put_nowait(item)
            servers = [asyncio.create_task(serve(pool)) for _ in range(9)]
            async with LoopMonitor() as monitor:
                await asyncio.sleep(0.3)
                for _ in range(3):
                    await asyncio.to_thread(json.loads, text)
                    await asyncio.sleep(0.1)
                return monitor.report()
        print(json.dumps({run}(main())))
    """)
    assert {culprit["cause"] for culprit in report["culprits"]} == {"gil"}, report
    assert report["by_cause"]["loop"]["stalls"], report
    assert "between two callbacks" in report["note"]
