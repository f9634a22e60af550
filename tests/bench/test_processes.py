import signal
import sys
from pathlib import Path

from bench.processes import Process, wait_until

PROGRAM = """
import time

class Finalized:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(30)

Finalized()
time.sleep(30)
"""


def test_a_process_ends_when_it_is_asked_to_though_it_is_in_a_finalizer(tmp_path: Path) -> None:
    with Process([sys.executable, "-c", PROGRAM], tmp_path) as process:
        wait_until(lambda: "ready" in process.output, "the program")
        process.terminate()

        assert process.wait(10) == -signal.SIGTERM
