"""Running a coroutine on either loop, and blocking it in ways that the tests share."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

Run = Callable[[Coroutine[Any, Any, Any]], Any]

both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


def cpu(seconds: float) -> None:
    """Keep the CPU busy for `seconds` of this thread's CPU time: a loaded machine makes it longer, not shorter."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def line_of(function: Callable[..., Any], text: str) -> int:
    """Line number of `text` in the source of a function."""
    import inspect

    lines, first = inspect.getsourcelines(function)
    return next(number for number, line in enumerate(lines, first) if text in line)
