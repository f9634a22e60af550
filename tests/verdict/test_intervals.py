"""Intervals of ratios and differences: against published figures, and by how often they hold the truth."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from asyncload_lib.verdict.intervals import difference_of_proportions, ratio_of_percentiles, spread_of_total_times


@pytest.mark.parametrize(
    ("p1", "n1", "p2", "n2", "low", "high"),
    [
        # Newcombe (1998), table II, method 10, as p2 - p1
        (48 / 80, 80, 56 / 70, 70, 0.0524, 0.3339),
        (3 / 10, 10, 9 / 10, 10, 0.1705, 0.8090),
        (0 / 20, 20, 10 / 10, 10, 0.6791, 1.0),
        (0 / 29, 29, 5 / 56, 56, -0.0381, 0.1926),
        (0 / 20, 20, 0 / 10, 10, -0.1611, 0.2775),
    ],
)
def test_difference_of_proportions(p1: float, n1: int, p2: float, n2: int, low: float, high: float) -> None:
    assert difference_of_proportions(p1, n1, p2, n2) == pytest.approx((low, high), abs=6e-5)


def phase(latencies_s: Any, total_s: float, n: int | None = None) -> dict[str, Any]:
    return {
        "total_requests": n or len(latencies_s), "total_time": total_s, "p50_latency": float(np.median(latencies_s)),
        "max_response_time": float(np.max(latencies_s)),
    }  # fmt: skip


DRAWS: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "exponential": lambda rng, n: rng.exponential(1.0, n),
    "lognormal": lambda rng, n: rng.lognormal(0.0, 0.5, n),
    "model time and a little": lambda rng, n: 200 + rng.lognormal(1.5, 0.6, n),
    "Pareto": lambda rng, n: 1 + rng.pareto(2.0, n),
    "uniform": lambda rng, n: rng.uniform(0.2, 10.0, n),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("n", [6, 50, 200])
def test_two_bursts_of_the_same_latencies_seldom_differ(n: int, draw: Callable[..., Any]) -> None:
    """Their total time is their slowest request; at most one pair in twenty may look different."""
    rng = np.random.default_rng(7)
    different = 0
    for _ in range(1000):
        one, other = draw(rng, n), draw(rng, n)
        low, high = spread_of_total_times(phase(one, one.max()), phase(other, other.max())) or (1, 1)
        different += not low < one.max() / other.max() < high
    assert different <= 50


def test_two_long_phases_of_the_same_rate_differ_in_five_percent() -> None:
    """Poisson arrivals over 100 s with short latencies: the spread is that of the count, neither wider nor narrower."""
    rng = np.random.default_rng(7)
    n1, n2 = rng.poisson(200, 4000), rng.poisson(100, 4000)
    inside = 0
    for a, b in zip(n1, n2, strict=True):
        low, high = spread_of_total_times(phase([0.01, 0.02], 100, int(a)), phase([0.01, 0.02], 100, int(b))) or (1, 1)
        inside += low < a / b / 2.0 < high
    assert 0.94 < inside / 4000 < 0.96


@pytest.mark.parametrize(
    "change", [{"total_requests": 2}, {"total_time": None}, {"p50_latency": None}, {"max_response_time": None}]
)
def test_too_small_a_sample_gives_no_spread(change: dict[str, Any]) -> None:
    whole = phase([1.0, 1.1, 1.2], 1.2)
    assert spread_of_total_times(whole, whole) is not None
    assert spread_of_total_times(whole, whole | change) is None


def test_ratio_of_percentiles_is_worst_against_best() -> None:
    before, after = {"ci_low": 2.0, "ci_high": 3.0}, {"ci_low": 0.5, "ci_high": 1.0}
    assert ratio_of_percentiles(before, after) == (2.0, 6.0)


@pytest.mark.parametrize("edges", [{}, {"ci_low": None, "ci_high": 1.0}, {"ci_low": 0.0, "ci_high": 1.0}])
def test_unresolved_percentile_gives_no_interval(edges: dict[str, float | None]) -> None:
    resolved = {"ci_low": 1.0, "ci_high": 2.0}
    assert ratio_of_percentiles(edges, resolved) is None
    assert ratio_of_percentiles(resolved, edges) is None
