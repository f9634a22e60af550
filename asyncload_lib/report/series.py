"""Series of a scenario put on one time axis: its phases in the order they were run, and the lag of its event loops."""

import math
from dataclasses import dataclass
from itertools import pairwise

from asyncload_lib.report.entries import Entry, mappings
from asyncload_lib.report.text import clean
from asyncload_lib.results.event_loops import HUB
from asyncload_lib.results.figures import number
from asyncload_lib.results.phase import is_baseline

__all__ = ["Lag", "Mark", "Point", "Span", "lag_series", "stalls", "timeline"]


_LEAST_INTERVALS = 3


@dataclass(frozen=True)
class Point:
    """One interval of a phase in seconds of the axis; `percentiles` holds those there are, `failed` counts."""

    start: float
    end: float
    failed: float
    percentiles: dict[str, float]


@dataclass(frozen=True)
class Span:
    """A phase on the time axis (s); `placed`: the axis is that of the loops' watch, else phases follow without gaps."""

    name: str
    start: float
    end: float
    points: list[Point]
    placed: bool


@dataclass(frozen=True)
class Lag:
    """A loop's largest lag: (start, end, lag) in seconds, in order, without gaps."""

    name: str
    steps: list[tuple[float, float, float]]


@dataclass(frozen=True)
class Mark:
    """A stall: its moment and length (s), what it is charged to, and the loop it is of."""

    at: float
    length: float
    cause: str
    loop: str


def timeline(metric: Entry) -> list[Span]:
    """Lay the phases of a scenario on one axis; a scenario without phases is one span of its own series.

    Empty where every phase is over within two intervals: one point is no course over time. Left out is what the
    blocking service does: it has another scale, and no loop is watched meanwhile.
    """
    spans: list[Span] = []
    for phase in mappings(metric.get("phases")) or [metric]:
        if is_baseline(str(phase.get("phase"))):
            continue
        begun, behind = number(phase.get("begun")), spans[-1].end if spans else -math.inf
        start = max(begun, behind) if begun is not None else max(0.0, behind)
        length = number(phase.get("total_time"))
        points = [point for entry in mappings(phase.get("series")) if (point := _point(entry, start, length))]
        end = max([start + (length or 0.0), *(point.end for point in points)])
        if end > start:
            spans.append(Span(clean(phase.get("phase"), 16), start, end, points, begun is not None))
    return spans if max((len(span.points) for span in spans), default=0) >= _LEAST_INTERVALS else []


def _point(entry: Entry, start: float, length: float | None) -> Point | None:
    """Place one interval; the last one ends with its phase, not with its full width."""
    at, width = number(entry.get("t")), number(entry.get("width"))
    if at is None or width is None or at < 0 or width <= 0:
        return None
    end = at + width if length is None or length <= at else min(at + width, length)
    found = {name: number(entry.get(name)) for name in ("p50", "p95", "p99")}
    percentiles = {name: value for name, value in found.items() if value is not None and value > 0}
    return Point(start + at, start + end, number(entry.get("failed")) or 0.0, percentiles)


_SHORT_NAMES = {"target (outside)": "outside", HUB: "hub"}


def lag_series(loops: list[Entry]) -> list[Lag]:
    """Give the lag of every loop that has a series of three or more."""
    found = []
    for loop in loops:
        points = [(number(entry.get("t")), number(entry.get("max_lag"))) for entry in mappings(loop.get("series"))]
        known = sorted({t: lag for t, lag in points if t is not None and lag is not None and t >= 0}.items())
        if len(known) < _LEAST_INTERVALS:
            continue
        width = min((later - earlier for (earlier, _), (later, _) in pairwise(known)), default=1.0)
        ends = [t for t, _ in known[1:]] + [known[-1][0] + width]
        steps = [(t, end, lag) for (t, lag), end in zip(known, ends, strict=True)]
        found.append(Lag(_short_name(loop), steps))
    return found


def _short_name(loop: Entry) -> str:
    name = str(loop.get("name"))
    return _SHORT_NAMES.get(name) or clean(name, 10)


def stalls(loops: list[Entry]) -> list[Mark]:
    """Give every recorded stall of all loops.

    What was seen from outside is a late answer, whatever made it so: its cause is "outside".
    """
    found = []
    for loop in loops:
        for entry in mappings(loop.get("stall_times")):
            at, length = number(entry.get("t")), number(entry.get("length"))
            if at is not None and length is not None and at >= 0 and length > 0:
                cause = "outside" if loop.get("witness") == "outside" else str(entry.get("cause"))
                found.append(Mark(at, length, cause, _short_name(loop)))
    return found
