"""Quantiles against numpy on the raw samples, merges against the whole, and the wire against both."""

import math
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncload_lib.results.arrays import Floats
from asyncload_lib.results.buckets import FINE, HIGHEST_US, pack, unpack_sparse
from asyncload_lib.results.histogram import Histogram, SparseHistogram

PROMISE = 0.001
QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)

latencies = st.one_of(
    st.floats(1.0, HIGHEST_US),
    st.floats(0.0, math.log(HIGHEST_US)).map(math.exp).map(lambda value: min(max(value, 1.0), HIGHEST_US)),
    st.integers(1, 2000).map(float),
    st.sampled_from([1.0, 2.0, 1023.9999999999999, 1024.0, HIGHEST_US]),
)
samples = st.lists(latencies, min_size=1, max_size=60)


def histogram_of(values: Any) -> Histogram:
    histogram = Histogram()
    histogram.record_many(np.array(values, dtype=np.float64))
    return histogram


def from_wire(wire: dict[str, Any]) -> Histogram:
    histogram = Histogram()
    histogram.add_sparse(SparseHistogram.from_wire(wire))
    return histogram


def state(histogram: Histogram) -> tuple[Any, ...]:
    return (
        histogram.counts.tobytes(),
        histogram.count,
        histogram.sum_ns,
        histogram.min_us,
        histogram.max_us,
    )


def assert_near_numpy(histogram: Histogram, values: Floats) -> None:
    for q in QUANTILES:
        true, read = float(np.percentile(values, q * 100)), histogram.quantile(q)
        assert read == pytest.approx(true, rel=PROMISE, abs=0), f"q={q} of {len(values)}"


@given(samples, st.floats(0.0, 1.0))
@settings(max_examples=500, deadline=None)
def test_quantile_is_within_promise_of_numpy(values: list[float], q: float) -> None:
    true, read = float(np.quantile(values, q)), histogram_of(values).quantile(q)
    assert read == pytest.approx(true, rel=PROMISE, abs=0)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1_000, 200_000])
@pytest.mark.parametrize(
    "shape", ["uniform", "lognormal", "exponential", "pareto", "bimodal", "constant", "loguniform"]
)
def test_quantiles_of_many_distributions(shape: str, n: int) -> None:
    rng = np.random.default_rng(n)
    draw: dict[str, Callable[[], Floats]] = {
        "uniform": lambda: rng.uniform(1, 1e6, n),
        "lognormal": lambda: rng.lognormal(9, 1.5, n),
        "exponential": lambda: 1 + rng.exponential(5e4, n),
        "pareto": lambda: 100 * (1 + rng.pareto(1.2, n)),
        "bimodal": lambda: np.where(rng.random(n) < 0.9, rng.normal(2e3, 50, n), rng.normal(3e6, 1e4, n)),
        "constant": lambda: np.full(n, 12_345.678),
        "loguniform": lambda: np.exp(rng.uniform(0, math.log(HIGHEST_US), n)),
    }
    values = np.clip(draw[shape](), 1.0, HIGHEST_US)
    assert_near_numpy(histogram_of(values), values)


def test_every_bucket_keeps_the_promise_at_its_edges() -> None:
    index = np.arange(FINE.size - 1)
    low, middle = FINE.lower_edge(index), FINE.middle(index)
    last = np.nextafter(FINE.lower_edge(index + 1), 0)
    assert (FINE.index(low) == index).all()
    assert (FINE.index(last) == index).all()
    assert np.max((middle - low) / low) <= PROMISE
    assert np.max((last - middle) / last) <= PROMISE
    assert float(low[0]) == 1.0
    assert FINE.lower_edge(np.array([FINE.size]))[0] > HIGHEST_US


@given(samples)
@settings(max_examples=200, deadline=None)
def test_count_sum_and_extremes_are_exact(values: list[float]) -> None:
    histogram = histogram_of(values)
    assert histogram.count == len(values)
    assert (histogram.min_us, histogram.max_us) == (min(values), max(values))
    assert histogram.sum_ns == sum(round(value * 1000) for value in values)
    assert histogram.mean == pytest.approx(math.fsum(values) / len(values), abs=0.001)
    assert histogram.counts.sum() == len(values)


def test_sum_does_not_overflow() -> None:
    hours = 3_000_000  # of an hour each: 1.08e19 ns is beyond an int64
    histogram = histogram_of(np.full(hours, HIGHEST_US))
    assert histogram.sum_ns == hours * int(HIGHEST_US) * 1000
    wire = msgpack.unpackb(msgpack.packb(histogram.to_wire()))
    assert from_wire(wire).sum_ns == histogram.sum_ns


@given(st.lists(samples, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_merged_parts_equal_the_whole(parts: list[list[float]]) -> None:
    merged = Histogram()
    for part in parts:
        other = histogram_of(part)
        before = state(other)
        merged.merge(other)
        assert state(other) == before
    assert state(merged) == state(histogram_of([value for part in parts for value in part]))


def test_merge_with_itself_empty_changes_nothing() -> None:
    histogram = histogram_of([5.0])
    before = state(histogram)
    histogram.merge(Histogram())
    assert state(histogram) == before


@given(st.lists(latencies, max_size=60))
@settings(max_examples=300, deadline=None)
def test_wire_round_trip_through_msgpack(values: list[float]) -> None:
    histogram = histogram_of(values)
    wire = msgpack.unpackb(msgpack.packb(histogram.to_wire()), strict_map_key=True)
    assert state(from_wire(wire)) == state(histogram)


def test_wire_is_compact() -> None:
    rng = np.random.default_rng(1)
    assert len(msgpack.packb(histogram_of(rng.lognormal(8, 1, 100_000)).to_wire())) < 5_000
    everywhere = np.exp(rng.uniform(0, math.log(HIGHEST_US), 1_000_000))
    assert len(msgpack.packb(histogram_of(everywhere).to_wire())) < 20_000


@pytest.mark.parametrize(
    "change",
    [
        {"counts": b"no zlib"},
        {"counts": "text"},
        {"counts": pack(np.ones(5, dtype=np.int64))[:-4]},
        {"counts": pack(np.ones(FINE.size + 1, dtype=np.int64))},
        {"sum_ns": 5},
        {"sum_ns": None},
        {"min_us": 9.0, "max_us": 1.0},
        {"min_us": float("nan")},
        {"max_us": None},
    ],
)
def test_wire_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    wire = histogram_of([1.0, 2.0]).to_wire() | change
    with pytest.raises((ValueError, TypeError)):
        from_wire(wire)


@given(st.dictionaries(st.integers(0, 999), st.integers(1, 2**62), max_size=30))
@settings(max_examples=200, deadline=None)
def test_packed_counts_come_back(places: dict[int, int]) -> None:
    counts = np.zeros(1000, dtype=np.int64)
    for place, count in places.items():
        counts[place] = count
    found, sizes = unpack_sparse(pack(counts), 1000)
    assert dict(zip(found.tolist(), sizes.tolist(), strict=True)) == places


def test_packed_counts_cannot_inflate_without_bound() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="packed counts"):
            unpack_sparse(bomb, FINE.size)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_values_below_a_microsecond_share_the_lowest_bucket() -> None:
    histogram = histogram_of([0.0, 0.25, 0.999])
    assert histogram.counts[0] == 3
    assert (histogram.quantile(0.0), histogram.quantile(1.0)) == (0.0, 0.999)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.001, HIGHEST_US * 1.0001])
def test_what_is_no_latency_is_refused_whole(value: float) -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="latencies must lie within"):
        histogram.record_many(np.array([1.0, value, 2.0]))
    assert state(histogram) == state(Histogram())


def test_empty_says_nothing() -> None:
    histogram = Histogram()
    assert (histogram.mean, histogram.quantile(0.5), histogram.confidence_interval(0.5)) == (None, None, None)
    assert not histogram.counts.any()
    with pytest.raises(ValueError, match="within 0 and 1"):
        histogram.quantile(95)
