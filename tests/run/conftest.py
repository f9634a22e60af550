"""Targets of real runs."""

from collections.abc import Iterator

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.users.conftest import target as target


@pytest.fixture(name="stack")
def running_stack() -> Iterator[DemoStack]:
    """The demo as an external target, quick, so that many requests fit into a short run."""
    with DemoStack(model_time_s=0.02, network_delay_s=0.001, keep_going=True) as stack:
        yield stack
