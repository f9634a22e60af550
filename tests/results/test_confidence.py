"""Intervals against exact binomial sums and against how often they cover the truth."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from asyncload_lib.results.confidence import rank_interval, samples_needed
from asyncload_lib.results.histogram import Histogram


def covered(n: int, q: float, lower: int, upper: int) -> float:
    """Probability that the q-quantile lies within the 0-based ranks, in exact arithmetic."""
    p = Fraction(q)
    return float(sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(lower + 1, upper + 1)))


@pytest.mark.parametrize(("q", "n"), [(0.5, 6), (0.9, 29), (0.95, 59), (0.99, 299), (0.999, 2995), (0.05, 59)])
def test_smallest_sample(q: float, n: int) -> None:
    assert samples_needed(q) == n
    assert rank_interval(n, q) is not None
    assert rank_interval(n - 1, q) is None


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("n", [6, 29, 59, 75, 100, 299, 400])
def test_ranks_cover_and_are_not_wider_than_needed(n: int, q: float) -> None:
    ranks = rank_interval(n, q)
    if ranks is None:
        assert n < samples_needed(q)
        return
    lower, upper = ranks
    assert 0 <= lower < upper <= n - 1
    assert covered(n, q, lower, upper) >= 0.95
    assert covered(n, q, lower + 1, upper - 1) < 0.95


def test_textbook_interval_of_the_median() -> None:
    assert rank_interval(100, 0.5) == (39, 60)


def test_large_samples_agree_with_the_normal_approximation() -> None:
    n, q = 100_000_000, 0.99
    ranks = rank_interval(n, q)
    assert ranks is not None
    reach = 1.959964 * (n * q * (1 - q)) ** 0.5
    assert ranks[0] == pytest.approx(n * q - reach, abs=3)
    assert ranks[1] == pytest.approx(n * q + reach, abs=3)


@pytest.mark.parametrize(("n", "q"), [(50, 0.5), (100, 0.95), (320, 0.99)])
def test_intervals_cover_the_true_quantile(n: int, q: float) -> None:
    rng, hits, trials = np.random.default_rng(7), 0, 1_000
    true = -np.log(1 - q) * 1e4
    for _ in range(trials):
        histogram = Histogram()
        histogram.record_many(rng.exponential(1e4, n))
        interval = histogram.confidence_interval(q)
        assert interval is not None
        hits += interval[0] <= true <= interval[1]
    assert hits / trials >= 0.935
