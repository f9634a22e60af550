"""How far the ratio of two runs may be off, as far as one run of each can tell.

What varies from run to run, such as a neighbour on the machine, is in none of these.

- Percentiles: both 95 % intervals, worst against best; hence at least as wide as a 95 % interval of the ratio.
- Throughput and total time, of which a run has one value: ratio * exp(+-1.96 * sqrt(v1 + v2)), where v is the variance
  of the logarithm of the total time. A burst lasts as long as its slowest request, so the spread of a maximum counts:
  (pi / sqrt(6) * s)**2 with the tail's scale s = ln(max / p50) / ln(n / 2), exact for Pareto tails and wide for lighter
  ones (Gumbel's limit of the logarithm of a maximum). The longer a run goes on beyond its slowest request, the more it
  is a count of n independent events instead: 1 / n.
- Error rates: Newcombe's interval of the difference of two proportions (Statistics in Medicine 17, 873, 1998).
"""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["difference_of_proportions", "ratio_of_percentiles", "spread_of_total_times"]

Interval = tuple[float, float]

_Z95 = 1.959964


def spread_of_total_times(before: Mapping[str, Any], after: Mapping[str, Any]) -> Interval | None:
    """Return the factors below and above a ratio of total times or throughputs; None where a sample is too small."""
    variances = [_variance_of_log_total_time(phase) for phase in (before, after)]
    if None in variances:
        return None
    factor = math.exp(_Z95 * math.sqrt(sum(variance or 0.0 for variance in variances)))
    return 1 / factor, factor


def _variance_of_log_total_time(phase: Mapping[str, Any]) -> float | None:
    n, total_s = phase.get("total_requests") or 0, phase.get("total_time")
    median_s, slowest_s = phase.get("p50_latency"), phase.get("max_response_time")
    if n < 3 or not total_s or not median_s or not slowest_s:
        return None
    share = min(1.0, slowest_s / total_s)
    tail = math.pi / math.sqrt(6) * max(0.0, math.log(slowest_s / median_s)) / math.log(n / 2)
    return float((1 - share) ** 2 / n + (share * tail) ** 2)


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
