"""A garbage collection in the middle of a look at other threads' frames must neither freeze nor crash the process."""

import subprocess
import sys
import textwrap

import pytest

from tests.locust_run import ROOT

pytestmark = pytest.mark.chance

STRESS = textwrap.dedent(
    """
    import asyncio, faulthandler, gc, threading, time
    from asyncload_lib.eventloop.lag import LoopMonitor

    faulthandler.dump_traceback_later(40, exit=True)
    gc.set_threshold(1, 1, 1)                              # a collection at almost every frame object
    gc.callbacks.append(lambda phase, info: time.sleep(0))  # that gives up the GIL, as any callback may
    end = time.monotonic() + 2.5

    def deep(depth):
        return deep(depth - 1) if depth else time.sleep(0.02)

    def start_threads():
        while time.monotonic() < end:
            thread = threading.Thread(target=deep, args=(30,))
            thread.start()
            thread.join()

    async def main():
        starters = [threading.Thread(target=start_threads) for _ in range(3)]
        for thread in starters:
            thread.start()
        async with LoopMonitor("one") as monitor, LoopMonitor("two"):
            while time.monotonic() < end:
                deep(40)
                await asyncio.sleep(0.001)
        for thread in starters:
            thread.join()
        print(monitor.report()["stalls"])

    asyncio.run(main())
    """
)


def test_collections_during_stalls_are_survived() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STRESS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
