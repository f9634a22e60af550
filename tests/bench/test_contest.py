import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.contest import Bench, window
from bench.model import Column, Figures, Table
from bench.peers import Peers
from bench.processes import Process

IDLE = [sys.executable, "-c", "import time\nprint('the last words', flush=True)\ntime.sleep(60)"]


@pytest.fixture
def generator(tmp_path: Path) -> Iterator[Process]:
    with Process(IDLE, tmp_path) as process:
        yield process


def counts(*values: int, then: Callable[[], None] = lambda: None) -> Callable[[], int]:
    """Return a target's count: one value after another, and what happens when the last one is asked for."""
    left = list(values)

    def served() -> int:
        if len(left) == 1:
            then()
        return left.pop(0)

    return served


def test_a_rate_is_what_was_served_from_the_windows_begin_to_its_end(generator: Process) -> None:
    figures = window(generator, counts(10, 70, 100, 400), 0.01, settle_s=0)

    assert 0 < figures["rate"] <= 300 / 0.01
    assert figures["cpu_us"] >= 0


def test_a_generator_that_dies_within_the_window_has_no_rate(generator: Process) -> None:
    with pytest.raises(ValueError, match="the load ended too soon"):
        window(generator, counts(10, 70, 100, 400, then=generator.stop), 0.01, settle_s=0)


def test_a_load_that_stands_still_has_no_rate(generator: Process) -> None:
    with pytest.raises(ValueError, match="the load ended too soon"):
        window(generator, counts(10, 70, 100, 100), 0.01, settle_s=0)


def test_a_generator_that_dies_before_its_load_comes_is_named_with_its_last_words(tmp_path: Path) -> None:
    with (
        Process([sys.executable, "-c", "raise SystemExit('no such host')"], tmp_path) as process,
        pytest.raises(ValueError, match="the load ended too soon: no such host"),
    ):
        window(process, lambda: 0, 0.01, settle_s=0)


def test_no_round_begins_after_the_end_of_the_run_for_it_would_fail_whom_it_does_not_reach(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Peers())

    def last() -> Figures:
        bench.ends_s = 0.0
        return {"rate": 1.0}

    table = bench.interleave(Table("chat", "Chat", [Column("rate")]), {"last": last}, rounds=3, limit_s=60)

    assert table.rounds == [{"last": {"rate": 1.0}}]
    assert table.failures == {}
