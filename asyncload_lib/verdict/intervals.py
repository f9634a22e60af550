"""How far the ratio of two runs may be off, as far as one run of each can tell.

- Percentiles: both 95 % intervals, worst against best; hence at least as wide as a 95 % interval of the ratio.
- Throughput and total time, of which a run has one value: ratio * exp(+-1.96 * sqrt(v1 + v2)), where v is the variance
  of the logarithm of the total time. A burst lasts as long as its slowest request, so the spread of a maximum counts:
  (pi / sqrt(6) * s)**2 with the tail's scale s = ln(max / p50) / ln(n / 2), exact for Pareto tails and wide for lighter
  ones (Gumbel's limit of the logarithm of a maximum). The longer a run goes on beyond its slowest request, the more it
  is a count of n independent events instead: 1 / n.
- Both may have taken less by up to the greatest lag of the loop that ran the users. The requests of a burst are no
  independent sample: a machine that is busy for a moment delays them all. The same burst of 100 Redis operations,
  repeated on a busy machine of two cores, took 58 to 103 ms with lags of 26 to 84 ms. Not less than nothing, and not
  more: a burst that takes seconds longer than another has not done so for a lag of milliseconds.
- Error rates: Newcombe's interval of the difference of two proportions (Statistics in Medicine 17, 873, 1998).
"""

import math
from collections.abc import Mapping
from typing import Any

from asyncload_lib.results.event_loops import HUB, is_of_generator

__all__ = ["difference_of_proportions", "ratio_of_percentiles", "spread_of_rates"]

Entry = Mapping[str, Any]
Interval = tuple[float, float]

_Z95 = 1.959964

_LEAST_SHARE = 0.01
"""Of a time, what is left of it at least when the lag is taken off."""


def spread_of_rates(before: Entry, after: Entry) -> Interval | None:
    """Return the factors below and above a ratio of total times or throughputs; None where a sample is too small."""
    variances = [_variance_of_log_total_time(entry) for entry in (before, after)]
    if None in variances:
        return None
    factor = math.exp(_Z95 * math.sqrt(sum(variance or 0.0 for variance in variances)))
    shortest = [_undisturbed(entry, entry["total_time"]) / entry["total_time"] for entry in (before, after)]
    return shortest[0] / factor, factor / shortest[1]


def ratio_of_percentiles(before: Entry, after: Entry, name: str) -> Interval | None:
    """Return the interval of before / after; None where a sample cannot resolve its percentile."""
    old, new = ((entry.get("latency") or {}).get(name) or {} for entry in (before, after))
    edges = [float(percentile.get(edge) or 0) for percentile in (old, new) for edge in ("ci_low", "ci_high")]
    if not all(edges):
        return None
    old_low, old_high, new_low, new_high = edges
    return _undisturbed(before, old_low) / new_high, old_high / _undisturbed(after, new_low)


def _variance_of_log_total_time(entry: Entry) -> float | None:
    n, median_s, slowest_s = entry.get("total_requests") or 0, entry.get("p50_latency"), entry.get("max_response_time")
    if n < 3 or not entry.get("total_time") or not median_s or not slowest_s:
        return None
    share = _share_of_slowest(entry)
    tail = math.pi / math.sqrt(6) * max(0.0, math.log(slowest_s / median_s)) / math.log(n / 2)
    return float((1 - share) ** 2 / n + (share * tail) ** 2)


def _share_of_slowest(entry: Entry) -> float:
    """Return 1 for a burst, which lasts as long as its slowest request, and nearly 0 for a long phase."""
    slowest_s, total_s = entry.get("max_response_time") or 0.0, entry.get("total_time") or math.inf
    return min(1.0, float(slowest_s / total_s))


def _undisturbed(entry: Entry, value_s: float) -> float:
    """Return what a time may have been without the generator's own lag."""
    loops = [loop for loop in entry.get("event_loops") or [] if is_of_generator(loop) and loop.get("name") != HUB]
    lags_s = [(loop.get("lag") or {}).get("max") or 0.0 for loop in loops]
    return max(value_s - _share_of_slowest(entry) * max(lags_s, default=0.0), value_s * _LEAST_SHARE)


def difference_of_proportions(p1: float, n1: int, p2: float, n2: int) -> Interval:
    """Return the interval of p2 - p1."""
    (low1, high1), (low2, high2) = _wilson(p1, n1), _wilson(p2, n2)
    return p2 - p1 - math.hypot(p2 - low2, high1 - p1), p2 - p1 + math.hypot(high2 - p2, p1 - low1)


def _wilson(p: float, n: int) -> Interval:
    """Return Wilson's interval of a proportion."""
    centre = (p + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * math.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n * n))
    return centre - half, centre + half
