import signal
import sys
from pathlib import Path

import pytest

from bench.processes import Process, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")


def test_a_process_can_be_interrupted_though_the_benchmark_runs_in_a_shells_background(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        program = "import time\nprint('ready', flush=True)\ntime.sleep(30)"
        with Process([sys.executable, "-c", program], tmp_path) as process:
            wait_until(lambda: "ready" in process.output, "the program")
            process.interrupt()
            code = process.wait(10)
    finally:
        signal.signal(signal.SIGINT, before)

    assert code == -signal.SIGINT  # as CPython ends after a KeyboardInterrupt that nobody catches
