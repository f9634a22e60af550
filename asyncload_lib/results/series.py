"""How a phase went over time: counts and a coarse histogram per interval, in bounded memory however long it takes."""

from collections.abc import Iterator, Sequence
from typing import Any

from asyncload_lib.results.arrays import Floats, Integers, np
from asyncload_lib.results.buckets import COARSE, pack, unpack_sparse

__all__ = ["ROWS", "Series", "check_block"]

ROWS = 300
"""Intervals a series has at most; when the phase outlives them, their width doubles."""

_BLOCK_ROWS = 50  # rows a wire entry carries, so that no entry is large


class Series:
    """Answers per `width_s` (1, 2, 4 ... s) since the phase began: ok, failed, latencies of the ok ones."""

    __slots__ = ("failed", "latency", "ok", "used", "width_s")

    def __init__(self, width_s: int = 1) -> None:
        self.width_s = width_s
        self.used = 0  # rows up to the last answer
        self.ok: Integers = np.zeros(ROWS, dtype=np.int64)
        self.failed: Integers = np.zeros(ROWS, dtype=np.int64)
        self.latency: Integers = np.zeros((ROWS, COARSE.size), dtype=np.int64)  # mapped lazily, row by row

    def record(self, t_s: float, requests: int, values_us: Floats, *, failed: bool) -> None:
        """Count `requests` answered at `t_s`, with those of their latencies (us) that are valid."""
        while t_s >= ROWS * self.width_s:
            self._widen()
        row = int(t_s / self.width_s)
        self.used = max(self.used, row + 1)
        if failed:
            self.failed[row] += requests
        else:
            self.ok[row] += requests
            np.add.at(self.latency[row], COARSE.index(values_us), 1)

    def merge(self, other: "Series") -> None:
        """Add the answers of `other`, which stays as it is; the result has the wider intervals of the two."""
        while self.width_s < other.width_s:
            self._widen()
        step = self.width_s // other.width_s
        rows = np.arange(other.used) // step
        np.add.at(self.ok, rows, other.ok[: other.used])
        np.add.at(self.failed, rows, other.failed[: other.used])
        for row in range(other.used):
            self.latency[row // step] += other.latency[row]
        self.used = max(self.used, -(-other.used // step))

    def rows(self) -> Iterator[tuple[int, int, int, list[float] | None]]:
        """Yield (t_s, ok, failed, [p50, p95, p99] in us or None) of each interval up to the last answer."""
        for row in range(self.used):
            yield row * self.width_s, int(self.ok[row]), int(self.failed[row]), self._percentiles(row)

    def to_wire(self) -> list[list[Any]]:
        """Return blocks [width_s, first row, ok, failed, latencies] of plain msgpack types."""
        blocks: list[list[Any]] = []
        for first in range(0, self.used, _BLOCK_ROWS):
            rows = slice(first, min(first + _BLOCK_ROWS, self.used))
            ok, failed = self.ok[rows].tolist(), self.failed[rows].tolist()
            blocks.append([self.width_s, first, ok, failed, pack(self.latency[rows].ravel())])
        return blocks

    def add_wire(self, block: Sequence[Any], later_s: int = 0) -> None:
        """Add a block of `to_wire`, of a series that began so much later; raises ValueError or TypeError on misfits."""
        width_s, first, ok, failed, data = block
        check_block(block)
        places, sizes = unpack_sparse(data, len(ok) * COARSE.size)
        counts = np.array([ok, failed], dtype=np.int64)
        while self.width_s < max(width_s, ((first + len(ok)) * width_s + later_s) / ROWS):
            self._widen()
        rows = (np.arange(first, first + len(ok)) * width_s + later_s) // self.width_s
        np.add.at(self.ok, rows, counts[0])
        np.add.at(self.failed, rows, counts[1])
        np.add.at(self.latency.reshape(-1), rows[places // COARSE.size] * COARSE.size + places % COARSE.size, sizes)
        self.used = max(self.used, int(rows[-1]) + 1)

    def _percentiles(self, row: int) -> list[float] | None:
        used = np.flatnonzero(self.latency[row])
        if not len(used):
            return None
        cumulated = np.cumsum(self.latency[row][used])
        ranks = np.array([0.50, 0.95, 0.99]) * (cumulated[-1] - 1)
        below = ranks.astype(np.int64)
        places = np.searchsorted(cumulated, [below, np.minimum(below + 1, cumulated[-1] - 1)], side="right")
        low, high = COARSE.middle(used[places])
        percentiles: list[float] = (low + (high - low) * (ranks - below)).tolist()
        return percentiles

    def _widen(self) -> None:
        wide = Series(self.width_s * 2)
        wide.merge(self)
        for name in self.__slots__:
            setattr(self, name, getattr(wide, name))


def check_block(block: Sequence[Any]) -> None:
    """Raise ValueError or TypeError unless `block` has the form of one of `to_wire`, whatever its packed bytes hold."""
    width_s, first, ok, failed, data = block
    stop = first + len(ok)
    if width_s <= 0 or width_s & (width_s - 1) or not 0 <= first < stop <= ROWS or len(failed) != len(ok):
        raise ValueError(f"rows {first} to {stop} of {width_s} s do not fit a series of {ROWS} rows")
    if not isinstance(data, bytes):
        raise TypeError(f"packed counts are {type(data).__name__}, not bytes")
