"""Largest relative error of the histogram's quantiles against numpy on the raw samples: `accuracy.py SAMPLES`."""

import json
import sys

import numpy as np

from asyncload_lib.results.histogram import Histogram

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


def samples(count: int) -> dict[str, "np.ndarray[tuple[int], np.dtype[np.float64]]"]:
    """Return latencies in us of five shapes, from tens of microseconds to minutes."""
    drawn = np.random.default_rng(1)
    slow = drawn.random(count) < 0.05
    return {
        "uniform": drawn.uniform(50, 5_000, count),
        "exponential": drawn.exponential(20_000, count) + 100,
        "log-normal": drawn.lognormal(9, 1.5, count),
        "pareto": (drawn.pareto(1.2, count) + 1) * 500,
        "two modes": np.where(slow, drawn.normal(250_000, 20_000, count), drawn.normal(2_000, 150, count)),
    }


def main(count: int) -> None:
    errors = {}
    for name, raw_us in samples(count).items():
        kept_us = np.clip(raw_us, 1.0, 3.6e9)
        histogram = Histogram()
        histogram.record_many(kept_us)
        errors[name] = {
            label: abs(histogram.quantile(q) / float(np.quantile(kept_us, q)) - 1) * 100  # type: ignore[operator]
            for label, q in QUANTILES.items()
        }
    print(json.dumps(errors))


main(int(sys.argv[1]))
