"""Intervals stay few, widen without losing an answer, and merge whatever their widths."""

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncload_lib.results.buckets import pack
from asyncload_lib.results.series import ROWS, Series

answers = st.lists(st.tuples(st.floats(0, 5_000), st.floats(0, 1e9), st.booleans()), max_size=30)


def series_of(script: list[tuple[float, float, bool]]) -> Series:
    series = Series()
    for t_s, value_us, failed in script:
        series.record(t_s, 1, np.array([value_us]), failed=failed)
    return series


def state(series: Series) -> tuple[int, int, bytes, bytes, bytes]:
    arrays = (series.ok.tobytes(), series.failed.tobytes(), series.latency.tobytes())
    return (series.width_s, series.used, *arrays)


@pytest.mark.parametrize(("t_s", "width_s"), [(2, 1), (299.9, 1), (300, 2), (599.9, 2), (600, 4), (86_400, 512)])
def test_width_doubles_when_the_phase_outlives_the_rows(t_s: float, width_s: int) -> None:
    series = series_of([(0.5, 1e3, False), (1.5, 2e3, True), (t_s, 3e3, False)])
    assert series.width_s == width_s
    assert series.used <= ROWS
    rows = list(series.rows())
    assert sum(ok for _, ok, _, _ in rows) == 2
    assert sum(failed for _, _, failed, _ in rows) == 1
    assert rows[-1][0] <= t_s < rows[-1][0] + width_s


@given(answers, answers)
@settings(max_examples=150, deadline=None)
def test_merged_series_equal_the_whole(
    left: list[tuple[float, float, bool]], right: list[tuple[float, float, bool]]
) -> None:
    merged, other = series_of(left), series_of(right)
    before = state(other)
    merged.merge(other)
    assert state(other) == before
    assert state(merged) == state(series_of(left + right))


@given(answers)
@settings(max_examples=100, deadline=None)
def test_wire_round_trip(script: list[tuple[float, float, bool]]) -> None:
    series, copied = series_of(script), Series()
    for block in msgpack.unpackb(msgpack.packb(series.to_wire())):
        copied.add_wire(block)
    if script:
        assert state(copied) == state(series)
    assert list(copied.rows()) == list(series.rows())


def test_percentiles_of_an_interval_are_near_the_raw_ones() -> None:
    values_us = np.random.default_rng(4).lognormal(9, 1, 20_000)
    series = Series()
    series.record(0.0, len(values_us), values_us, failed=False)
    ((_, ok, failed, percentiles),) = series.rows()
    assert (ok, failed) == (20_000, 0)
    assert percentiles == pytest.approx(np.percentile(values_us, [50, 95, 99]), rel=0.02)


@pytest.mark.parametrize("values_us", [[1e3], [1e3, 2e3], [1e2] * 5 + [1e5] * 5, [5e3, 1e4, 2e4, 9e5]])
def test_percentiles_of_few_answers_follow_the_same_rule_as_all_others(values_us: list[float]) -> None:
    series = Series()
    series.record(0.0, len(values_us), np.array(values_us), failed=False)
    ((*_, percentiles),) = series.rows()
    assert percentiles == pytest.approx(np.percentile(values_us, [50, 95, 99]), rel=0.016)


@pytest.mark.parametrize(
    "block",
    [
        [3, 0, [1], [0], pack(np.ones(1, dtype=np.int64))],
        [0, 0, [1], [0], pack(np.ones(1, dtype=np.int64))],
        [1, 300, [1], [0], pack(np.ones(1, dtype=np.int64))],
        [1, -1, [1], [0], pack(np.ones(1, dtype=np.int64))],
        [1, 0, [1], [0, 0], pack(np.ones(1, dtype=np.int64))],
        [1, 0, ["x"], [0], pack(np.ones(1, dtype=np.int64))],
        [1, 0, [1], [0], b"junk"],
        [1, 0, [1], [0]],
    ],
)
def test_blocks_that_do_not_fit_are_refused(block: list[object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Series().add_wire(block)
