"""Series of a scenario put on one time axis: its phases one after another, and the lag of its event loops."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .table import Entry, mappings
from .text import clean
from .units import number

__all__ = ["Span", "lag_series", "stalls", "timeline"]


@dataclass(frozen=True)
class Span:
    """A phase on the time axis; `points`: t (from the axis' zero), width, p50, p95, p99 (s or None) and failed."""

    name: str
    start: float
    end: float
    points: list[dict[str, Any]]


def timeline(metric: Entry) -> list[Span]:
    """Lay the phases of a scenario one after another; a scenario without phases is one span of its own series."""
    spans: list[Span] = []
    for phase in mappings(metric.get("phases")) or [metric]:
        start = spans[-1].end if spans else 0.0
        points = [_point(entry, start) for entry in mappings(phase.get("series"))]
        known = [point for point in points if point is not None]
        last = max((point["t"] + point["width"] for point in known), default=start)
        end = max(last, start + (number(phase.get("total_time")) or 0.0))
        if end > start:
            spans.append(Span(clean(phase.get("phase"), 24), start, end, known))
    return spans


def _point(entry: Entry, start: float) -> dict[str, Any] | None:
    at, width = number(entry.get("t")), number(entry.get("width"))
    if at is None or width is None or at < 0 or width <= 0:
        return None
    point: dict[str, Any] = {"t": start + at, "width": width, "failed": number(entry.get("failed"))}
    for name in ("p50", "p95", "p99"):
        value = number(entry.get(name))
        point[name] = value if value is not None and value > 0 else None
    return point


def lag_series(loops: list[Entry]) -> list[tuple[str, list[tuple[float, float, float]]]]:
    """Give per loop its name and (start, end, largest lag), all in seconds; loops without a series are left out."""
    found = []
    for loop in loops:
        points = [(number(entry.get("t")), number(entry.get("max_lag"))) for entry in mappings(loop.get("series"))]
        known = sorted((t, lag) for t, lag in points if t is not None and lag is not None and t >= 0)
        if not known:
            continue
        steps = [later[0] - earlier[0] for earlier, later in pairwise(known)]
        width = min((step for step in steps if step > 0), default=1.0)
        ends = [entry[0] for entry in known[1:]] + [known[-1][0] + width]
        joined = [(t, end, lag) for (t, lag), end in zip(known, ends, strict=True) if end > t]
        found.append((clean(loop.get("name"), 16), joined))
    return found


def stalls(loops: list[Entry]) -> list[tuple[float, float, str]]:
    """Give (moment, length, cause) of every recorded stall of all loops, in seconds."""
    found = []
    for loop in loops:
        for entry in mappings(loop.get("stall_times")):
            at, length = number(entry.get("t")), number(entry.get("length"))
            if at is not None and length is not None and at >= 0 and length > 0:
                found.append((at, length, str(entry.get("cause"))))
    return found
