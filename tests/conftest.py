"""Two kinds of tests, told apart by what their module imports; a third runs whole commands.

* Most run in this process. Nothing may import locust or gevent into it: they replace its threads, sockets and clocks.
* A module that imports locust, gevent or a room that stands on them runs in the patched process: `tests/patched.py`.
* Runs of the real `locust` command are made by `tests/locust_run.py`, from modules of the first kind.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import patched

# Hundreds of processes are started, and each would compile all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    if patched.IN_CHILD:
        config.pluginmanager.register(patched.Reporter(config))
    else:
        config.stash[patched.CHILD] = patched.Child(config)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if patched.IN_CHILD or not patched.needs_locust(module_path):
        return None
    return patched.PatchedFile.from_parent(parent, path=module_path)


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not isinstance(item, patched.PatchedItem):
        return None
    item.run_protocol(nextitem)
    return True


def pytest_unconfigure(config: pytest.Config) -> None:
    if patched.CHILD in config.stash:
        config.stash[patched.CHILD].stop()


@pytest.fixture(autouse=True)
def _not_patched() -> Iterator[None]:
    yield
    assert patched.IN_CHILD or "gevent" not in sys.modules, "a test imported locust here: see tests/patched.py"
