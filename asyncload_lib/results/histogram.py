"""Latencies of any number of requests in fixed memory, within a known error: at most 0.1 % from 1 us to 1 h."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from asyncload_lib.results.arrays import Floats, Integers, np
from asyncload_lib.results.buckets import FINE, HIGHEST_US, pack, unpack_sparse
from asyncload_lib.results.confidence import rank_interval

__all__ = ["Histogram", "SparseHistogram"]


class Histogram:
    """Count of latencies per log-linear bucket, with the exact count, sum (whole ns), minimum and maximum.

    Two histograms merge exactly: what parts give when merged is, bucket for bucket, what the whole would have given.
    """

    __slots__ = ("count", "counts", "max_us", "min_us", "sum_ns")

    def __init__(self) -> None:
        # np.zeros of this size is mapped lazily: only pages that hold latencies cost memory.
        self.counts: Integers = np.zeros(FINE.size, dtype=np.int64)
        self.count = 0
        self.sum_ns = 0  # an integer, so that the order of merges cannot change it
        self.min_us = float("inf")
        self.max_us = float("-inf")

    def record_many(self, values_us: Floats) -> None:
        """Count latencies in us, shape (n,), all or none; raises ValueError if one is NaN or outside [0, 3.6e9]."""
        if not len(values_us):
            return
        values_us = np.ascontiguousarray(values_us, dtype=np.float64)
        low, high = float(values_us.min()), float(values_us.max())
        if not (low >= 0.0 and high <= HIGHEST_US):
            raise ValueError(f"latencies must lie within 0 and {HIGHEST_US:g} us; these reach from {low} to {high}")
        np.add.at(self.counts, FINE.index(values_us), 1)
        self.count += len(values_us)
        self.sum_ns += _sum_ns(values_us)
        self.min_us = min(self.min_us, low)
        self.max_us = max(self.max_us, high)

    def merge(self, other: "Histogram") -> None:
        """Add the latencies of `other`, which stays as it is."""
        self.counts += other.counts
        self.count += other.count
        self.sum_ns += other.sum_ns
        self.min_us = min(self.min_us, other.min_us)
        self.max_us = max(self.max_us, other.max_us)

    @property
    def mean(self) -> float | None:
        """Mean latency in us, None when empty."""
        return self.sum_ns / self.count / 1000.0 if self.count else None

    def quantile(self, q: float) -> float | None:
        """Return the q-quantile (0..1) in us, None when empty; numpy's default rule, within the bucket's error."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile lies within 0 and 1, not {q}")
        if not self.count:
            return None
        rank = q * (self.count - 1)
        below = int(rank)
        low, high = self._at_rank(below, min(below + 1, self.count - 1))
        return low + (high - low) * (rank - below)

    def count_above(self, value_us: float) -> int:
        """Return how many latencies lie in buckets above that of `value_us`."""
        return int(self.counts[self._above(value_us) :].sum())

    def excess_above(self, value_us: float, less_us: float) -> float:
        """Return the sum of those latencies in us, each reduced by `less_us` but not below zero."""
        first = self._above(value_us)
        above = np.flatnonzero(self.counts[first:]) + first
        return float(np.maximum(FINE.middle(above) - less_us, 0.0) @ self.counts[above])

    def confidence_interval(self, q: float) -> tuple[float, float] | None:
        """Return bounds in us that cover the q-quantile with 95 % probability; None if the sample is too small."""
        ranks = rank_interval(self.count, q)
        return self._at_rank(*ranks) if ranks else None

    def to_wire(self) -> dict[str, Any]:
        """Return the histogram as plain msgpack types."""
        return {
            "sum_ns": [self.sum_ns >> 32, self.sum_ns & 0xFFFFFFFF],  # msgpack ends at 64 bits
            "min_us": self.min_us if self.count else None,
            "max_us": self.max_us if self.count else None,
            "counts": pack(self.counts),
        }

    def add_sparse(self, other: "SparseHistogram") -> None:
        """Add what came over the wire."""
        if other.total:
            self.counts[other.places] += other.sizes
            self.count += other.total
            self.sum_ns += other.sum_ns
            self.min_us = min(self.min_us, other.min_us)
            self.max_us = max(self.max_us, other.max_us)

    def _above(self, value_us: float) -> int:
        return int(FINE.index(np.array([value_us], dtype=np.float64))[0]) + 1

    def _at_rank(self, *ranks: int) -> tuple[float, float]:
        """Return the latencies at two ranks (0-based); the first and the last are known exactly."""
        used = np.flatnonzero(self.counts)
        places = used[np.searchsorted(np.cumsum(self.counts[used]), ranks, side="right")]
        values = np.clip(FINE.middle(places), self.min_us, self.max_us).tolist()
        exact = {0: self.min_us, self.count - 1: self.max_us}
        low, high = (exact.get(rank, value) for rank, value in zip(ranks, values, strict=True))
        return low, high


class SparseHistogram(NamedTuple):
    """A histogram as it comes over the wire: its non-empty buckets alone, which is all that adding it up takes."""

    places: Integers
    sizes: Integers
    total: int
    sum_ns: int
    min_us: float
    max_us: float

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> "SparseHistogram":
        """Read what `Histogram.to_wire` wrote; raises ValueError, KeyError or TypeError on anything else."""
        places, sizes = unpack_sparse(wire["counts"], FINE.size)
        if not len(places):
            return cls(places, sizes, 0, 0, float("inf"), float("-inf"))
        high, low = wire["sum_ns"]
        min_us, max_us = float(wire["min_us"]), float(wire["max_us"])
        if not 0.0 <= min_us <= max_us <= HIGHEST_US:
            raise ValueError(f"a histogram cannot reach from {min_us} to {max_us} us")
        return cls(places, sizes, int(sizes.sum()), (int(high) << 32) + int(low), min_us, max_us)


def _sum_ns(values_us: Floats) -> int:
    """Return the sum in whole ns; in two halves, because 2.6 million latencies of an hour overflow an int64."""
    values_ns = np.rint(values_us * 1000.0).astype(np.int64)
    return (int((values_ns >> 20).sum()) << 20) + int((values_ns & 0xFFFFF).sum())
