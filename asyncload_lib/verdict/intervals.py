"""How far the ratio of two runs may be off, from what one run of each can tell.

- Percentiles: both 95 % intervals, worst against best; hence at least as wide as a 95 % interval of the ratio.
- Throughput and total time, of which a run has one value: ratio * exp(+-1.96 * sqrt(1/n1 + 1/n2)) for n1 and n2
  requests, as if they were independent events (Poisson counts, delta method on the logarithm).
- Error rates: Newcombe's interval of the difference of two proportions (Statistics in Medicine 17, 873, 1998).
"""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["difference_of_proportions", "ratio_of_percentiles", "spread_of_counts"]

Interval = tuple[float, float]

_Z95 = 1.959964


def spread_of_counts(n1: int, n2: int) -> Interval:
    """Return the factors below and above a ratio of two rates, seen over `n1` and `n2` events."""
    factor = math.exp(_Z95 * math.sqrt(1 / n1 + 1 / n2))
    return 1 / factor, factor


def ratio_of_percentiles(before: Mapping[str, Any], after: Mapping[str, Any]) -> Interval | None:
    """Return the interval of before / after; None where a sample cannot resolve its percentile."""
    edges = [float(percentile.get(edge) or 0) for percentile in (before, after) for edge in ("ci_low", "ci_high")]
    if not all(edges):
        return None
    before_low, before_high, after_low, after_high = edges
    return before_low / after_high, before_high / after_low


def difference_of_proportions(p1: float, n1: int, p2: float, n2: int) -> Interval:
    """Return the interval of p2 - p1."""
    (low1, high1), (low2, high2) = _wilson(p1, n1), _wilson(p2, n2)
    return p2 - p1 - math.hypot(p2 - low2, high1 - p1), p2 - p1 + math.hypot(high2 - p2, p1 - low1)


def _wilson(p: float, n: int) -> Interval:
    """Return Wilson's interval of a proportion."""
    centre = (p + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * math.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n * n))
    return centre - half, centre + half
