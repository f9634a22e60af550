from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncload_lib.demo.stack import DemoStack

MODEL_TIME_S = 0.05
NETWORK_DELAY_S = 0.005


@pytest.fixture(scope="session")
def shared_stack() -> Iterator[DemoStack]:
    with DemoStack(model_time_s=MODEL_TIME_S, network_delay_s=NETWORK_DELAY_S, faults=True) as stack:
        yield stack
        assert stack.failure() is None


@pytest.fixture
def stack(shared_stack: DemoStack) -> DemoStack:
    """The shared demo, its ledger empty."""
    shared_stack.reset_ledger()
    return shared_stack


@pytest.fixture(params=["async", "blocking"])
def host(request: pytest.FixtureRequest, stack: DemoStack) -> str:
    return stack.host if request.param == "async" else stack.blocking_host


@pytest.fixture
def private_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that temporary files go to, so that what is left of them can be seen."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path
