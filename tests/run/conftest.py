"""Targets of real runs."""

from collections.abc import Iterator

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.distributed.conftest import fresh_ledger as fresh_ledger
from tests.users.conftest import target as target


def quick_stack() -> DemoStack:
    """Return the demo as an external target, quick, so that many requests fit into a short run."""
    return DemoStack(model_time_s=0.02, network_delay_s=0.001)


@pytest.fixture(name="stack", scope="package")
def shared_stack() -> Iterator[DemoStack]:
    with quick_stack() as stack:
        yield stack
