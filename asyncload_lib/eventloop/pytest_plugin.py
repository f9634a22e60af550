"""Pytest fixture `loop_must_not_block`: a test fails when a call blocks the loop that it runs on.

    pytest_plugins = ["asyncload_lib.eventloop.pytest_plugin"]      # in conftest.py

    @pytest.mark.loop_limit(0.020)                                  # seconds; 10 ms without the mark
    async def test_answer(loop_must_not_block): ...

Works with `asyncio.run` in a plain test as with any plugin for async tests: every loop that is run while the fixture
lives, asyncio's or uvloop's, is watched. The failure names file, line, function and call.
"""

import asyncio
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .lag import LIMIT_S, PERIOD_S, LoopMonitor

__all__ = ["LoopGuard", "loop_must_not_block"]


class LoopGuard:
    """Collects a monitor for each loop that runs; `check()` fails the test that blocked one of them."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self.reports: list[dict[str, Any]] = []

    def watching(self, run_until_complete: Callable[..., Any]) -> Callable[..., Any]:
        """The given method of a loop class, with a monitor on the loop while it runs."""

        @functools.wraps(run_until_complete)
        def watched(loop: asyncio.AbstractEventLoop, future: Any) -> Any:
            monitor = LoopMonitor("test", self.limit_s, min(PERIOD_S, self.limit_s))
            monitor.start(loop)
            try:
                return run_until_complete(loop, future)
            finally:
                monitor.stop()
                self.reports.append(monitor.report())

        return watched

    def check(self) -> None:
        """Fail the running test if a loop was blocked."""
        blocked = [report for report in self.reports if report["blocked"]]
        if blocked:
            pytest.fail("\n".join(_sentences(blocked)), pytrace=False)


@pytest.fixture
def loop_must_not_block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopGuard]:
    """Fails the test when one call blocks its event loop for longer than the limit."""
    mark = request.node.get_closest_marker("loop_limit")
    guard = LoopGuard(float(mark.args[0]) if mark is not None else LIMIT_S)
    classes: list[Any] = [asyncio.BaseEventLoop]
    if "uvloop" in sys.modules:
        classes.append(sys.modules["uvloop"].Loop)
    for loop_class in classes:
        monkeypatch.setattr(loop_class, "run_until_complete", guard.watching(loop_class.run_until_complete))
    yield guard
    guard.check()


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "loop_limit(seconds): longest time that one call may block the event loop")


def _sentences(reports: list[dict[str, Any]]) -> Iterator[str]:
    for report in reports:
        yield (
            f"the event loop was blocked {report['stalls']} times over {report['limit_s'] * 1e3:g} ms,"
            f" longest {report['max_stall'] * 1e3:.1f} ms"
        )
        for culprit in report["culprits"]:
            if culprit["cause"] in ("loop", "gil"):
                yield (
                    f"  {culprit['file']}:{culprit['line']} in {culprit['function']}: {culprit['call']}"
                    f"  ({culprit['count']} times, longest {culprit['longest_s'] * 1e3:.1f} ms)"
                )
