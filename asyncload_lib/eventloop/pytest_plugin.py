"""Pytest fixture `loop_must_not_block`: a test fails when a call blocks the loop that it runs on.

    pytest_plugins = ["asyncload_lib.eventloop.pytest_plugin"]      # in conftest.py

    @pytest.mark.loop_limit(0.020)                                  # seconds; 10 ms without the mark
    async def test_answer(loop_must_not_block): ...

Works with `asyncio.run` in a plain test as with any plugin for async tests: every loop of asyncio or uvloop that begins
to run while the fixture lives is watched, in whichever thread. The failure names file, line, function and call; pytest
shows it as an error at the test's teardown. A test that passed without any loop having run gets such an error, too.
"""

import asyncio
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .findings import counted
from .heartbeat import LIMIT_S, PERIOD_S, SHORTEST_LIMIT_S
from .lag import LoopMonitor

__all__ = ["LoopGuard", "loop_must_not_block"]

LONGEST_LIMIT_S = 10.0
"""A mark above it is refused: it must have been meant in milliseconds."""

NO_PROOF = "it is not proven that the event loop was not blocked"


class LoopGuard:
    """Has a monitor for each loop that runs; `check()` fails the test that blocked one of them."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self.limit_s = limit_s
        self.monitors: list[LoopMonitor] = []

    def watching(self, run_forever: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return `run_forever` of a loop class, by which all its loops run, with a monitor around it."""

        @functools.wraps(run_forever)
        def watched(loop: asyncio.AbstractEventLoop) -> None:
            monitor = LoopMonitor("test", self.limit_s, min(PERIOD_S, self.limit_s))
            monitor.start(loop)
            self.monitors.append(monitor)
            try:
                run_forever(loop)
            finally:
                monitor.stop()

        return watched

    def check(self, has_passed: bool = True) -> None:
        """Fail the running test if a loop was blocked, even one that still runs, or if it passed without any."""
        reports = [monitor.report() for monitor in self.monitors]
        sentences = [*_sentences([report for report in reports if report["blocked"]])]
        sentences += [f"{NO_PROOF}: {report['note']}" for report in reports if report["blocked"] is None]
        if has_passed and not reports:
            sentences.append(f"{NO_PROOF}: no loop of asyncio or uvloop began to run in this test")
        if sentences:
            pytest.fail("\n".join(sentences), pytrace=False)

    def end(self) -> None:
        """Watch no loop any longer: that of a fixture for the whole session runs on."""
        for monitor in self.monitors:
            monitor.stop_soon()


_HAS_PASSED = pytest.StashKey[bool]()


@pytest.fixture
def loop_must_not_block(request: pytest.FixtureRequest) -> Iterator[LoopGuard]:
    """Fails the test when one call blocks its event loop for longer than the limit, or when no loop ran."""
    guard = LoopGuard(_limit_s(request))
    with pytest.MonkeyPatch.context() as patch:  # not the fixture `monkeypatch`: the test itself may undo that
        for loop_class in _loop_classes():
            patch.setattr(loop_class, "run_forever", guard.watching(loop_class.run_forever))
        yield guard
        try:
            guard.check(request.node.stash.get(_HAS_PASSED, False))
        finally:
            guard.end()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Keep whether the test itself has passed: one that failed or was skipped owes no proof."""
    if call.when == "call":
        item.stash[_HAS_PASSED] = call.excinfo is None


def _limit_s(request: pytest.FixtureRequest) -> float:
    mark = request.node.get_closest_marker("loop_limit")
    if mark is None:
        return LIMIT_S
    match mark.args:
        case [int() | float() as limit] if SHORTEST_LIMIT_S <= limit <= LONGEST_LIMIT_S and limit is not True:
            if not mark.kwargs:
                return float(limit)
    given = ", ".join([*map(repr, mark.args), *(f"{key}={value!r}" for key, value in mark.kwargs.items())])
    raise pytest.UsageError(
        f"loop_limit({given}): allowed is one number of seconds from {SHORTEST_LIMIT_S} to {LONGEST_LIMIT_S:g}"
    )


def _loop_classes() -> list[Any]:
    classes: list[Any] = [asyncio.BaseEventLoop]
    try:
        classes.append(importlib.import_module("uvloop").Loop)  # a server may import it only when it is started
    except ImportError:
        pass
    return classes


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "loop_limit(seconds): longest time that one call may block the event loop")


def _sentences(reports: list[dict[str, Any]]) -> Iterator[str]:
    for report in reports:
        yield (
            f"the event loop was blocked {counted(report['stalls'], 'time')} for {report['limit_s'] * 1e3:g} ms or"
            f" more, longest {report['max_stall'] * 1e3:.1f} ms"
        )
        for culprit in report["culprits"]:
            if culprit["cause"] in ("loop", "gil"):
                yield (
                    f"  {culprit['file']}:{culprit['line']} in {culprit['function']}: {culprit['call']}"
                    f"  ({counted(culprit['count'], 'time')}, longest {culprit['longest_s'] * 1e3:.1f} ms)"
                )
