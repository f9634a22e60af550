"""Targets for users: a scripted server, and the demo."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncload_lib.demo.stack import DemoStack

MODEL_TIME_S = 0.02


@pytest.fixture(scope="session")
def target() -> Iterator[str]:
    """The address of `target.py`."""
    program = Path(__file__).with_name("target.py")
    with subprocess.Popen([sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()
        process.wait(10)


@pytest.fixture(scope="session")
def shared_demo() -> Iterator[DemoStack]:
    with DemoStack(model_time_s=MODEL_TIME_S, network_delay_s=0.001, faults=True) as stack:
        yield stack


@pytest.fixture
def demo(shared_demo: DemoStack) -> DemoStack:
    """The embedded target with faults, its ledger empty."""
    shared_demo.reset_ledger()
    return shared_demo
