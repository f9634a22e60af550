"""Intervals of ratios and differences: against published figures, and by how often they hold the truth."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from asyncload_lib.verdict.intervals import difference_of_proportions, ratio_of_percentiles, spread_of_rates


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
        low, high = spread_of_rates(phase(one, one.max()), phase(other, other.max())) or (1, 1)
        different += not low < one.max() / other.max() < high
    assert different <= 50


def test_two_long_phases_of_the_same_rate_differ_in_five_percent() -> None:
    """Poisson arrivals over 100 s with short latencies: the spread is that of the count, neither wider nor narrower."""
    rng = np.random.default_rng(7)
    n1, n2 = rng.poisson(200, 4000), rng.poisson(100, 4000)
    inside = 0
    for a, b in zip(n1, n2, strict=True):
        low, high = spread_of_rates(phase([0.01, 0.02], 100, int(a)), phase([0.01, 0.02], 100, int(b))) or (1, 1)
        inside += low < a / b / 2.0 < high
    assert 0.94 < inside / 4000 < 0.96


@pytest.mark.parametrize(
    "change", [{"total_requests": 2}, {"total_time": None}, {"p50_latency": None}, {"max_response_time": None}]
)
def test_too_small_a_sample_gives_no_spread(change: dict[str, Any]) -> None:
    whole = phase([1.0, 1.1, 1.2], 1.2)
    assert spread_of_rates(whole, whole) is not None
    assert spread_of_rates(whole, whole | change) is None


def percentile(value: float | None, low: float | None, high: float | None, lag_s: float = 0.0) -> dict[str, Any]:
    """A burst with one percentile; the hub, the loop and the target were late, the target most of all."""
    lags = {"generator hub": lag_s / 2, "generator": lag_s, "target": 100.0}
    return {
        "total_requests": 50, "total_time": 4.0, "p50_latency": 4.0, "max_response_time": 4.0,
        "latency": {"p50": {"value": value, "ci_low": low, "ci_high": high}},
        "event_loops": [{"name": name, "lag": {"max": lag}} for name, lag in lags.items()],
    }  # fmt: skip


def test_ratio_of_percentiles_is_worst_against_best() -> None:
    assert ratio_of_percentiles(percentile(2.5, 2, 3), percentile(0.75, 0.5, 1), "p50") == (2.0, 6.0)


def test_lag_of_the_generator_widens_what_a_burst_can_tell() -> None:
    """A time may have been shorter by as much; neither the target's lag nor that of Locust's hub is noise."""
    one, other = percentile(4.0, 4, 4, lag_s=0.4), percentile(4.0, 4, 4)
    assert ratio_of_percentiles(one, other, "p50") == spread_of_rates(one, other) == pytest.approx((0.9, 1.0))
    assert ratio_of_percentiles(other, one, "p50") == spread_of_rates(other, one) == pytest.approx((1.0, 1 / 0.9))
    assert spread_of_rates(other, other) == (1.0, 1.0)
    one["event_loops"][0]["lag"]["max"] = 3.0
    assert spread_of_rates(one, other) == pytest.approx((0.9, 1.0))


def test_lag_as_long_as_a_burst_leaves_open_all_but_the_time_itself() -> None:
    short, long = percentile(0.07, 0.07, 0.07, lag_s=0.3), percentile(0.42, 0.4, 0.42)
    low, high = ratio_of_percentiles(short, long, "p50") or (1, 1)
    assert 0 < low < 0.01
    assert high == pytest.approx(0.07 / 0.4)


def test_lag_is_nothing_to_a_phase_that_goes_on() -> None:
    steady = percentile(4.0, 4, 4, lag_s=0.4) | {"total_time": 40_000.0}
    low, high = ratio_of_percentiles(steady, steady, "p50") or (0, 0)
    assert 0.9999 < low < high < 1.0001


@pytest.mark.parametrize("edges", [(None, None, None), (1.0, None, 1.0), (1.0, 0.0, 1.0)])
def test_unresolved_percentile_gives_no_interval(edges: tuple[float | None, float | None, float | None]) -> None:
    resolved, unresolved = percentile(1.5, 1, 2), percentile(*edges)
    assert ratio_of_percentiles(unresolved, resolved, "p50") is None
    assert ratio_of_percentiles(resolved, unresolved, "p50") is None
    assert ratio_of_percentiles(resolved, resolved, "p95") is None
