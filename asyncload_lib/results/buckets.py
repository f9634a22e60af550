"""Where a latency falls: log-linear buckets read off the bits of a float64, and their compact form on the wire.

A positive float64 is exponent, then mantissa; its top bits are a bucket number that grows with the value. With `b`
mantissa bits every octave has 2**b buckets of equal width, and its middle is within 2**-(b+1) of any value in it.
"""

import struct
import zlib
from dataclasses import dataclass
from functools import cached_property

from asyncload_lib.results.arrays import Floats, Integers, np

__all__ = [
    "COARSE",
    "FINE",
    "HIGHEST_US",
    "Layout",
    "pack",
    "unpack_sparse",
]

HIGHEST_US = 3.6e9

_MANTISSA_BITS = 52
_EXPONENT_OF_ONE = 1023
_WIDTHS = (1, 2, 4, 8)
_MOST_BYTES = 16
_HEAD = struct.Struct("<BBI")


@dataclass(frozen=True)
class Layout:
    """Buckets of `mantissa_bits` per octave from 1 us to 1 h; what is shorter counts in the lowest."""

    mantissa_bits: int

    @cached_property
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
    """Return non-negative counts as bytes: steps between the non-empty places, then their counts, deflated.

    Each in as few bytes as the largest needs, the bytes of equal weight together, because most high ones are zero.
    Before them stand both widths and the first place.
    """
    used = np.flatnonzero(counts)
    first = int(used[0]) if len(used) else 0
    steps, sizes = np.diff(used, prepend=first), counts[used]
    widths = _width(steps), _width(sizes)
    raw = _HEAD.pack(*widths, first) + _planes(steps, widths[0]) + _planes(sizes, widths[1])
    return zlib.compress(raw, 6)


def unpack_sparse(data: bytes, size: int) -> tuple[Integers, Integers]:
    """Return the non-empty of `size` places, ascending, and the counts that `pack` was given there, shape (n,) each.

    Raises ValueError on anything else than what `pack` returns.
    """
    try:
        inflater = zlib.decompressobj()
        # One byte beyond what can be right: more is odd, and never inflated.
        raw = inflater.decompress(data, _HEAD.size + size * _MOST_BYTES + 1)
        step_width, size_width, first = _HEAD.unpack_from(raw)
    except (zlib.error, struct.error, TypeError) as error:
        raise ValueError(f"packed counts cannot be read: {error}") from error
    if step_width not in _WIDTHS or size_width not in _WIDTHS:
        raise ValueError(f"packed counts have {step_width} and {size_width} bytes, not one of {_WIDTHS}")
    used, odd = divmod(len(raw) - _HEAD.size, step_width + size_width)
    if odd or not inflater.eof:
        raise ValueError(f"packed counts are cut off or exceed {size} buckets")
    steps = _joined(raw, _HEAD.size, used, step_width)
    sizes = _joined(raw, _HEAD.size + used * step_width, used, size_width)
    places = steps.cumsum(dtype=np.int64) + first
    if used and (places[-1] >= size or steps[0] or not steps[1:].all() or sizes.min() <= 0):
        raise ValueError("packed counts are out of order, out of range or not positive")
    return places, sizes.astype(np.int64)


def _width(values: Integers) -> int:
    """Return how many bytes the largest of `values` needs, as one of `_WIDTHS`."""
    largest = int(values.max()) if len(values) else 0
    return next(width for width in _WIDTHS if largest < 1 << 8 * width - 1)


def _planes(values: Integers, width: int) -> bytes:
    return values.astype(f"<i{width}").view(np.uint8).reshape(-1, width).T.tobytes()


def _joined(raw: bytes, start: int, count: int, width: int) -> Integers:
    planes = np.frombuffer(raw, np.uint8, count * width, start)
    if width > 1:
        planes = planes.reshape(width, count).T.copy().ravel()
    joined: Integers = planes.view(f"<i{width}")
    return joined
