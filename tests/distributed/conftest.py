"""A target with a ledger, quick, so that many requests fit into a short run."""

from collections.abc import Iterator

import pytest

from asyncload_lib.demo.stack import DemoStack


@pytest.fixture(name="stack", scope="package")
def running_stack() -> Iterator[DemoStack]:
    with DemoStack(model_time_s=0.02, network_delay_s=0.001, vm_delay_s=0.01) as stack:
        yield stack


@pytest.fixture(autouse=True)
def fresh_ledger(request: pytest.FixtureRequest) -> None:
    if "stack" in request.fixturenames:
        request.getfixturevalue("stack").reset_ledger()
