"""Where a latency falls: log-linear buckets read off the bits of a float64, and their compact form on the wire.

A positive float64 is exponent, then mantissa; its top bits are a bucket number that grows with the value. With `b`
mantissa bits every octave has 2**b buckets of equal width, and its middle is within 2**-(b+1) of any value in it.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["COARSE", "FINE", "HIGHEST_US", "LOWEST_US", "Floats", "Integers", "Layout", "pack", "unpack"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LOWEST_US = 1.0
HIGHEST_US = 3.6e9

_MANTISSA_BITS = 52
_EXPONENT_OF_ONE = 1023
_WIRE_BYTES = 12  # a uint32 step and a uint64 count per bucket


@dataclass(frozen=True)
class Layout:
    """Buckets of `mantissa_bits` per octave from 1 us to 1 h; what is shorter counts in the lowest."""

    mantissa_bits: int

    @property
    def size(self) -> int:
        """Number of buckets."""
        return int(self._number(np.array([HIGHEST_US]))[0]) + 1

    def index(self, values_us: Floats) -> Integers:
        """Return the bucket of each value; values are float64, contiguous, within [0, HIGHEST_US]."""
        return np.maximum(self._number(values_us), 0)

    def lower_edge(self, index: Integers) -> Floats:
        """Return where each bucket begins, in us; that of `index + 1` is where it ends."""
        return ((index + self._first) << self._shift).view(np.float64)

    def middle(self, index: Integers) -> Floats:
        """Return the value that stands for each bucket, in us."""
        return (self.lower_edge(index) + self.lower_edge(index + 1)) / 2

    @property
    def _shift(self) -> int:
        return _MANTISSA_BITS - self.mantissa_bits

    @property
    def _first(self) -> int:
        return _EXPONENT_OF_ONE << self.mantissa_bits

    def _number(self, values_us: Floats) -> Integers:
        return (values_us.view(np.int64) >> self._shift) - self._first


FINE = Layout(9)
"""At most 2**-10 = 0.098 % off: what percentiles are read from."""

COARSE = Layout(5)
"""At most 1.6 % off: small enough for one histogram a second."""


def pack(counts: Integers) -> bytes:
    """Return non-negative counts as bytes: steps between the non-empty places, their counts, deflated.

    Bytes of equal weight stand together, because most high ones are zero.
    """
    used = np.flatnonzero(counts)
    steps = np.diff(used, prepend=0).astype("<u4").view(np.uint8).reshape(-1, 4)
    sizes = counts[used].astype("<u8").view(np.uint8).reshape(-1, 8)
    return zlib.compress(steps.T.tobytes() + sizes.T.tobytes(), 6)


def unpack(data: bytes, size: int) -> Integers:
    """Return the counts that `pack` was given, `size` places; raises ValueError on anything else."""
    try:
        inflater = zlib.decompressobj()
        # One byte beyond what can be right: more is odd, and never inflated.
        raw = np.frombuffer(inflater.decompress(data, size * _WIRE_BYTES + 1), dtype=np.uint8)
    except (zlib.error, TypeError) as error:
        raise ValueError(f"packed counts cannot be read: {error}") from error
    used, odd = divmod(len(raw), _WIRE_BYTES)
    if odd or not inflater.eof:
        raise ValueError(f"packed counts are cut off or exceed {size} buckets")
    places = raw[: used * 4].reshape(4, -1).T.copy().view("<u4").ravel().astype(np.int64).cumsum()
    sizes = raw[used * 4 :].reshape(8, -1).T.copy().view("<i8").ravel()
    if used and (places[-1] >= size or (np.diff(places) <= 0).any() or (sizes <= 0).any()):
        raise ValueError("packed counts are out of order, out of range or not positive")
    counts = np.zeros(size, dtype=np.int64)
    counts[places] = sizes
    return counts
