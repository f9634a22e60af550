"""Real threads, clocks and locks in a process where gevent may have replaced them.

`import locust` swaps `threading`, `time.sleep`, `queue` and more for greenlet versions. A loop that must run beside
the hub needs the originals. They are looked up without importing gevent, so that a target can use this module too.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["native", "start_native_thread"]


def native(module: str, name: str) -> Any:
    """Return `module.name` as CPython ships it, whether or not gevent has patched it."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(import_module(module), name)


def start_native_thread(target: Callable[[], None]) -> int:
    """Run `target` in a new OS thread and return its identifier; the caller arranges its end."""
    ident: int = native("_thread", "start_new_thread")(target, ())
    return ident
