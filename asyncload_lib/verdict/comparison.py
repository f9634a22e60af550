"""Two runs beside each other, if `comparability` lets them: ratios, each with what the samples allow to say.

A ratio above 1 means that the second run is better. Its interval comes from `intervals`. Only one that lies beyond 10 %
around 1 as a whole makes a difference; a ratio within them, whose interval is known not to reach far beyond, is "no
improvement", and anything else "not significant".

Each scenario is compared by its headline phase, by whether the target's and the generator's event loops were blocked,
and by the percentiles and errors of the other phases with load.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from asyncload_lib.results.event_loops import any_blocked, deciding_loops
from asyncload_lib.results.figures import number
from asyncload_lib.results.model import time_problem
from asyncload_lib.results.wording import figure_words, time_words
from asyncload_lib.verdict.comparability import by_scenario, differences, in_both, obstacles
from asyncload_lib.verdict.intervals import difference_of_proportions, ratio_of_percentiles, spread_of_rates
from asyncload_lib.verdict.observation import missing
from asyncload_lib.verdict.stalls import is_about, observe_loops

__all__ = ["PRACTICALLY_EQUAL", "compare"]

PRACTICALLY_EQUAL = 1.1
"""A ratio between 1 / 1.1 and 1.1 is less than what one run of each can tell apart: runs differ by themselves."""

Run = Mapping[str, Any]
Interval = tuple[float, float]

_PERCENTILES = ("p50", "p95", "p99")
_NOT_MEASURED = ("warm_up", "baseline_warm_up", "ramp")
_WHOLE = {"better": "improved", "worse": "worse", "none": "no improvement"}


def compare(before: Run, after: Run, *, force: bool = False) -> dict[str, Any]:
    """Compare the results JSON of two runs.

    Returns comparable (bool), reasons (why not), forced, notes (reasons and what else may explain a ratio), before and
    after (id, started, git_commit), rows ([{scenario, test_name, metric, before, after (text), before_value,
    after_value, ratio, low, high, words, change}]), and change ("better", "worse" or "none") and words of the whole.
    low and high are the 95 % interval of the ratio; for error_rate, of the difference; target_loop and
    generator_loop (where the scenario has such a loop) have neither, and as values the longest stall (s). Runs that
    are not comparable get no rows, except with `force`.
    """
    reasons = list(obstacles(before, after))
    rows = [] if reasons and not force else list(_rows(before, after))
    changes = {row["change"] for row in rows}
    change = "worse" if "worse" in changes else "better" if "better" in changes else "none"
    return {
        "comparable": not reasons,
        "reasons": reasons,
        "forced": force and bool(reasons),
        "notes": [*(f"not comparable: {reason}" for reason in reasons), *differences(before, after)],
        "before": _identity(before),
        "after": _identity(after),
        "rows": rows,
        "change": change,
        "words": _WHOLE[change] if rows else "not comparable",
    }


def _identity(results: Run) -> dict[str, Any]:
    return {key: results["run"].get(key) for key in ("id", "started", "git_commit")}


def _rows(before: Run, after: Run) -> Iterator[dict[str, Any]]:
    first, second = by_scenario(before), by_scenario(after)
    limit_s = _limit_of_both(before, after)
    is_timed = before["run"].get("kind") != "free"  # a free run lasts as long as its user told it to
    for scenario in in_both(first, second):
        name = second[scenario].get("test_name") or scenario
        for row in _rows_of(first[scenario], second[scenario], limit_s):
            if is_timed or row["metric"] != "total_time":
                yield {"scenario": scenario, "test_name": name, **row}


def _rows_of(before: Run, after: Run, limit_s: float) -> Iterator[dict[str, Any]]:
    spread = spread_of_rates(before, after)
    problems = time_problem(before, "the run before"), time_problem(after, "the run after")
    for metric, words, key in (("total_time", time_words, "total_time"), ("throughput", _rate, "requests_per_second")):
        old, new = (None if bad else entry.get(key) for bad, entry in zip(problems, (before, after), strict=True))
        ratio = _ratio(new, old) if metric == "throughput" else _ratio(old, new)
        interval = (ratio * spread[0], ratio * spread[1]) if ratio and spread else None
        row = _ratio_row(metric, _figure(old, words), _figure(new, words), ratio, interval)
        yield {**row, "words": "; ".join(filter(None, problems)) or row["words"]}
    yield from _rows_of_requests(before, after, "")
    for whose in ("target", "generator"):
        if any(is_about(entry.get("event_loops") or [], whose) for entry in (before, after)):
            yield _loop_row(f"{whose}_loop", *(_blocked(entry, whose, limit_s) for entry in (before, after)))
    first, second = _other_phases(before), _other_phases(after)
    for name in in_both(first, second):
        yield from _rows_of_requests(first[name], second[name], f"{name} ")


def _rows_of_requests(before: Run, after: Run, prefix: str) -> Iterator[dict[str, Any]]:
    for name in _PERCENTILES:
        old, new = (
            _certain(entry, name, ((entry.get("latency") or {}).get(name) or {}).get("value"))
            for entry in (before, after)
        )
        interval = ratio_of_percentiles(before, after, name)
        yield _ratio_row(prefix + name, _figure(old, time_words), _figure(new, time_words), _ratio(old, new), interval)
    yield _error_row(before, after, f"{prefix}error_rate")


def _certain(entry: Run, name: str, value: float | None) -> float | None:
    """Return the value, or None where requests that may never have ended could have made it another."""
    return None if missing(entry, name).value is not None else value


def _other_phases(metric: Run) -> dict[str, Run]:
    """Return the phases beside the headline that were measured, by name, with the loops that watched them."""
    phases = {str(phase.get("phase")): phase for phase in metric.get("phases") or []}
    return {
        name: {**phase, "event_loops": metric.get("event_loops")}
        for name, phase in phases.items()
        if name not in (metric.get("phase"), *_NOT_MEASURED)
    }


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator and denominator else None


class _Figure(NamedTuple):
    """One side of a row."""

    value: float | None
    text: str


def _figure(value: float | None, words: Callable[[float], str]) -> _Figure:
    return _Figure(value, "no data" if value is None else words(value))


def _rate(per_second: float) -> str:
    return f"{figure_words(per_second)}/s"


def _share(fraction: float) -> str:
    return f"{figure_words(fraction * 100)} %"


def _row(
    metric: str,
    before: _Figure,
    after: _Figure,
    words: str,
    change: str,
    ratio: float | None = None,
    interval: Interval | None = None,
) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {
        "metric": metric,
        "before": before.text,
        "after": after.text,
        "before_value": before.value,
        "after_value": after.value,
        "ratio": ratio,
        "low": low,
        "high": high,
        "words": words,
        "change": change,
    }


def _ratio_row(
    metric: str, before: _Figure, after: _Figure, ratio: float | None, interval: Interval | None
) -> dict[str, Any]:
    words, change = _words(ratio, interval)
    if before.value and not after.value:
        change = "worse"  # what was measured before is not there any more
    return _row(metric, before, after, words, change, ratio, interval)


def _words(ratio: float | None, interval: Interval | None) -> tuple[str, str]:
    """Say what a ratio comes to, and whether that is better, worse or none of both."""
    if ratio is None:
        return "no data", "none"
    if interval is None:
        return "not significant (too few samples)", "none"
    low, high = interval
    least, most = 1 / PRACTICALLY_EQUAL, PRACTICALLY_EQUAL
    if least <= ratio <= most:
        reaches_beyond = low < least or high > most
        return "not significant" if low <= 1 <= high and reaches_beyond else "no improvement", "none"
    if low <= most and high >= least:
        return "not significant", "none"
    if ratio > 1:
        return f"{ratio:.1f}x faster ({low:.1f}x to {high:.1f}x)", "better"
    return f"{1 / ratio:.1f}x slower ({1 / high:.1f}x to {1 / low:.1f}x)", "worse"


def _error_row(before: Run, after: Run, metric: str) -> dict[str, Any]:
    p1, p2 = (_certain(entry, "error_rate", entry.get("error_rate")) for entry in (before, after))
    n1, n2 = before.get("total_requests"), after.get("total_requests")
    interval, words, change = None, "no data", "none"
    if p1 is not None and p2 is not None and n1 and n2:
        interval = low, high = difference_of_proportions(p1, n1, p2, n2)
        change = "worse" if low > 0 else "better" if high < 0 else "none"
        neither = "no change" if p1 == p2 else "not significant"
        words = {"worse": "more errors", "better": "fewer errors", "none": neither}[change]
    elif p1 is not None and after.get("error_rate") is not None:
        change = "worse"  # what was certain before is in doubt now
    return _row(metric, _figure(p1, _share), _figure(p2, _share), words, change, interval=interval)


def _limit_of_both(before: Run, after: Run) -> float:
    """Return from which length (s) on a stall is a blocked loop by the limits of both runs; 0 where they are one."""
    limits = [number((results["run"].get("settings") or {}).get("loop.limit")) or 0.0 for results in (before, after)]
    return max(limits) if limits[0] != limits[1] else 0.0


_OfLoop = tuple[bool | None, float | None]
"""Whether the loops of a row were blocked (None: not known), and their longest stall in seconds."""


def _loop_row(metric: str, before: _OfLoop, after: _OfLoop) -> dict[str, Any]:
    (was, old), (now, new) = before, after
    words, change = "blocked in both" if now else "no change", "none"
    if was is None or now is None:
        words, change = "no data", "none" if was is None else "worse"  # it was judged before, and is not any more
    elif was is not now:
        words, change = ("blocked now", "worse") if now else ("not blocked any more", "better")
    return _row(metric, _Figure(old, _stalled(was, old)), _Figure(new, _stalled(now, new)), words, change)


def _blocked(entry: Run, whose: str, limit_s: float) -> _OfLoop:
    loops = [loop for loop in deciding_loops(entry.get("event_loops") or []) if is_about([loop], whose)]
    stall_s = observe_loops(loops, "max_stall", whose).value
    blocked = any_blocked(loops)
    return blocked and (stall_s is None or stall_s >= limit_s), stall_s


def _stalled(blocked: bool | None, stall_s: float | None) -> str:
    if blocked is None:
        return "no data"
    return "not blocked" if not blocked else "blocked" + (f" for {time_words(stall_s)}" if stall_s else "")
