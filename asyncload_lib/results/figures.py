"""The figures of one phase as JSON: latencies in seconds, null where there is nothing to say."""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from asyncload_lib.results.arrays import np
from asyncload_lib.results.buckets import FINE
from asyncload_lib.results.confidence import samples_needed
from asyncload_lib.results.histogram import Histogram
from asyncload_lib.results.phase import ABANDONED, Endpoint, PhaseResult, Tally

__all__ = ["PERCENTILES", "counts", "number", "percentile", "phase_figures", "ratio", "seconds"]

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
"""By name the quantile that each is."""

_FLAT = ("p50", "p95", "p99")
_BARS = 200

Percentiles = dict[str, dict[str, Any]]


def phase_figures(phase: PhaseResult, concurrency: int) -> dict[str, Any]:
    """Return everything the document says of a phase.

    Latencies (avg, min, max, percentiles, intervals) are those of successful requests; failed ones have
    `failed_latency`. requests_per_second counts both, over total_time: the phase's start to its last answer, or
    as long as its users waited for what had none.
    """
    ok, failed, overdue, omitted_share = phase.ok, phase.failed, phase.overdue, phase.omitted_share
    latency = _percentiles(ok)
    errors_of: defaultdict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for (kind, name, text), count in phase.errors.items():
        errors_of[kind, name].append((text, count))
    return {
        **counts(phase),
        "total_time": phase.total_time_s,
        **_latencies(ok, latency),
        "concurrency": concurrency,
        "abandoned_max_age": phase.abandoned_max_age_s,
        "overdue_requests": sum(overdue.values()),
        "omitted_share": omitted_share,
        "invalid_latencies": phase.invalid_count,
        "unmeasured_requests": phase.unmeasured_count,
        "latency": latency,
        "failed_latency": _percentiles(failed) if failed.count else None,
        "endpoints": [
            {
                **_endpoint(key, endpoint, errors_of[key], phase.total_time_s),
                "overdue_requests": (late := _overdue_of(key, overdue, phase.endpoints)),
                "omitted_share": omitted_share if late else None,
            }
            for key, endpoint in sorted(phase.endpoints.items())
        ],
        "request_metrics": [_metric(*key, tally) for key, tally in sorted(_request_metrics(phase).items())],
        "errors": [
            {"type": kind, "name": name, "error": text, "count": count}
            for (kind, name, text), count in sorted(phase.errors.items(), key=lambda item: (-item[1], item[0]))
        ],
        "series": _series(phase),
        "distribution": _distribution(ok, failed),
    }


def counts(phase: PhaseResult) -> dict[str, Any]:
    """Return how many requests there were of each outcome, and their rates."""
    return {
        **_answers(phase.ok_count, phase.failed_count, phase.total_time_s),
        "started_requests": phase.started,
        "abandoned_requests": phase.abandoned_count,
    }


def seconds(value_us: float | None) -> float | None:
    """Return us as seconds, None as None."""
    return None if value_us is None else value_us / 1e6


def number(value: object) -> float | None:
    """Return a finite number as float; None for all that is none: None, NaN, infinity, a bool, a text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Return numerator / denominator, None if either is missing or there is nothing to divide by."""
    if numerator is None or not denominator or not math.isfinite(numerator / denominator):
        return None
    return numerator / denominator


def _answers(ok: int, failed: int, total_time_s: float | None) -> dict[str, Any]:
    total = ok + failed
    return {
        "total_requests": total,
        "successful_requests": ok,
        "failed_requests": failed,
        "error_rate": ratio(failed, total),
        "requests_per_second": ratio(total, total_time_s),
    }


def _latencies(histogram: Histogram, percentiles: Percentiles) -> dict[str, float | None]:
    return {
        "avg_response_time": seconds(histogram.mean),
        "min_response_time": seconds(histogram.min_us) if histogram.count else None,
        "max_response_time": seconds(histogram.max_us) if histogram.count else None,
        **{f"{name}_latency": percentiles[name]["value"] for name in _FLAT},
    }


def _percentiles(histogram: Histogram) -> Percentiles:
    return {name: percentile(histogram, name) for name in PERCENTILES}


def percentile(histogram: Histogram, name: str) -> dict[str, Any]:
    """Return value and 95 % interval (s) of "p50", "p90", "p95", "p99" or "p99.9"; a note where there is none."""
    q = PERCENTILES[name]
    interval = histogram.confidence_interval(q)
    low_us, high_us = interval or (None, None)
    note = (
        ""
        if interval
        else f"no 95 % interval: {name} needs at least {samples_needed(q)} samples, "
        f"{histogram.count} {'was' if histogram.count == 1 else 'were'} measured"
    )
    return {
        "value": seconds(histogram.quantile(q)),
        "ci_low": seconds(low_us),
        "ci_high": seconds(high_us),
        "resolved": interval is not None,
        "note": note,
    }


def _endpoint(
    key: tuple[str, str], endpoint: Endpoint, errors: Sequence[tuple[str, int]], total_time_s: float | None
) -> dict[str, Any]:
    latency, failed = _percentiles(endpoint.ok.histogram), endpoint.failed.histogram
    failed_latency = _percentiles(failed) if failed.count else None
    return {
        "type": key[0],
        "name": key[1],
        **_answers(endpoint.ok.count, endpoint.failed.count, total_time_s),
        "unmeasured_requests": endpoint.ok.invalid,
        **_latencies(endpoint.ok.histogram, latency),
        "latency": latency,
        "failed_p95_latency": failed_latency["p95"]["value"] if failed_latency else None,
        "failed_latency": failed_latency,
        "errors": [{"error": text, "count": count} for text, count in sorted(errors, key=lambda error: -error[1])],
    }


def _overdue_of(
    key: tuple[str, str], overdue: Mapping[tuple[str, str], int], endpoints: Collection[tuple[str, str]]
) -> int:
    """Return how many overdue operations are an endpoint's; those of its name that have no endpoint are, too."""
    return sum(
        count
        for cut_off, count in overdue.items()
        if cut_off == key or (cut_off[1] == key[1] and cut_off not in endpoints)
    )


def _request_metrics(phase: PhaseResult) -> dict[tuple[str, str], Tally]:
    """Return what is kept of requests, by metric and name; of those of that name that were cut off, their ages."""
    ages: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    for (_, name), tally in phase.abandoned.items():
        ages[ABANDONED, name].merge(tally)
    for key in ages.keys() & phase.metrics.keys():  # a user's own metric of that name
        ages[key].merge(phase.metrics[key])
    return {**phase.metrics, **ages}


def _metric(name: str, request: str, tally: Tally) -> dict[str, Any]:
    values, percentiles = tally.histogram, _percentiles(tally.histogram)
    return {
        "name": name,
        "request": request,
        "count": tally.count,
        "invalid": tally.invalid,
        "avg": seconds(values.mean),
        "min": seconds(values.min_us) if values.count else None,
        "max": seconds(values.max_us) if values.count else None,
        **{name: percentiles[name]["value"] for name in _FLAT},
        "percentiles": percentiles,
    }


def _series(phase: PhaseResult) -> list[dict[str, Any]]:
    intervals = []
    for t_s, ok, failed, percentiles in phase.series.rows():
        p50, p95, p99 = percentiles or (None, None, None)
        interval = {"t": t_s, "width": phase.series.width_s, "ok": ok, "failed": failed}
        intervals.append({**interval, "p50": seconds(p50), "p95": seconds(p95), "p99": seconds(p99)})
    return intervals


def _distribution(ok: Histogram, failed: Histogram) -> list[dict[str, Any]]:
    """Return at most 200 adjacent bars over the span of all latencies, each of 2**n neighbouring buckets."""
    used = np.flatnonzero(ok.counts + failed.counts)
    if not len(used):
        return []
    shift = 0
    while (used[-1] >> shift) - (used[0] >> shift) >= _BARS:
        shift += 1
    first, last = int(used[0] >> shift), int(used[-1] >> shift) + 1
    starts = np.arange(first, last + 1, dtype=np.int64) << shift
    edges_s = (FINE.lower_edge(starts) / 1e6).tolist()
    bars = zip(edges_s, edges_s[1:], _summed(ok, starts), _summed(failed, starts), strict=False)
    return [{"low": low, "high": high, "ok": good, "failed": bad} for low, high, good, bad in bars]


def _summed(histogram: Histogram, starts: Any) -> list[int]:
    cumulated = np.concatenate(([0], np.cumsum(histogram.counts)))
    sums: list[int] = np.diff(cumulated[np.minimum(starts, FINE.size)]).tolist()
    return sums
