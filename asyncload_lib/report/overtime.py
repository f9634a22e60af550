"""Percentiles over time drawn above the lag of the event loops, on one time axis, with phases and stalls marked."""

from collections.abc import Sequence
from typing import Any

from asyncload_lib.report.canvas import (
    BLUE,
    DASHED,
    FONT_PT,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    label_row,
    share_along,
    spread,
    style_axes,
    tick_latencies,
    width_of,
)
from asyncload_lib.report.entries import Entry
from asyncload_lib.report.limits import Limit
from asyncload_lib.report.numbers import short_duration
from asyncload_lib.report.series import Lag, Mark, Point, Span, stalls
from asyncload_lib.results.figures import number

__all__ = ["draw_over_time"]

_PERCENTILES = (("p50", SKY), ("p95", BLUE), ("p99", PURPLE))
_LOOP_COLOURS = {"target": BLUE, "outside": SKY, "generator": MUTED, "hub": PURPLE}
_LOOP_LINES = {"outside": (0, (1, 1.5)), "hub": (0, (4, 1.5))}
_CAUSES = {
    "loop": ("v", VERMILLION, "▼ loop"),
    "gil": ("s", ORANGE, "■ GIL"),
    "gc": ("o", MUTED, "● GC"),
    "machine": ("x", INK, "× machine"),  # noqa: RUF001
    "outside": ("^", SKY, "▲ late answer"),
}
_LEAST_LAG_S = 1e-4
_FOOT = 0.04
"""Where the marks of failures stand: share of the height."""


def draw_over_time(
    figure: Any, spans: list[Span], lags: list[Lag], loops: list[Entry], limits: Sequence[Limit]
) -> None:
    """Draw percentiles of `spans` above the strip of `lags`; one of the two where the other is empty.

    The two share their time axis only where it is known when each phase began in the time of the watch.
    """
    upper, lower = _lay_out(figure, bool(spans), bool(lags))
    of_phases = min((span.start for span in spans), default=0.0), max((span.end for span in spans), default=0.0)
    of_lag = 0.0, max((lag.steps[-1][1] for lag in lags), default=0.0)
    placed = all(span.placed for span in spans)
    shared = upper is not None and lower is not None and placed
    if shared:
        of_phases = of_lag = min(of_phases[0], 0.0), max(of_phases[1], of_lag[1])
    if upper is not None:
        _draw_percentiles(upper, spans, limits)
        _time_axis(upper, *of_phases)
        if shared:
            upper.tick_params(axis="x", labelbottom=False, length=0)
        _mark_phases([axes for axes in (upper, lower if shared else None) if axes is not None], spans)
    if lower is not None:
        _draw_lag(lower, loops, lags)
        _time_axis(lower, *of_lag)
        lower.set_xlabel("time since the watch of the event loops began", color=MUTED)


def _lay_out(figure: Any, spans: bool, lags: bool) -> tuple[Any, Any]:
    left, width = 0.125, 0.725
    if not (spans and lags):
        axes = figure.add_axes((left, 0.145, width, 0.7))
        style_axes(axes)
        return (axes, None) if spans else (None, axes)
    upper, lower = figure.add_axes((left, 0.47, width, 0.41)), figure.add_axes((left, 0.135, width, 0.2))
    style_axes(upper)
    style_axes(lower)
    return upper, lower


def _time_axis(axes: Any, start: float, end: float) -> None:
    axes.set_xlim(start, end)
    axes.xaxis.get_major_locator().set_params(nbins=6)
    axes.xaxis.set_major_formatter(lambda value, _: short_duration(round(value, 6)))


def _draw_percentiles(axes: Any, spans: list[Span], limits: Sequence[Limit]) -> None:
    latest: dict[str, tuple[str, float, str]] = {}
    values: list[float] = []
    foot = _mark_failures(axes, [point for span in spans for point in span.points if point.failed])
    for name, colour in _PERCENTILES:
        for group in (group for span in spans for group in _unbroken(span.points, name)):
            levels = [point.percentiles[name] for point in group]
            edges = [point.start for point in group] + [group[-1].end]
            axes.stairs(levels, edges, baseline=None, color=colour, linewidth=1.8)
            latest[name] = (name, levels[-1], colour)
            values += levels
    if values:
        _scale_latency(axes, min(values), max(values), spans, limits)
    else:
        axes.text(0.5, 0.5, "no successful request", transform=axes.transAxes, color=MUTED, ha="center", va="center")
        axes.set_yticks([])
    _label_ends(axes, list(latest.values()), foot)


def _unbroken(points: list[Point], name: str) -> list[list[Point]]:
    """Cut a series where seconds without a successful request lie between: no line is drawn through nothing."""
    groups: list[list[Point]] = []
    for point in points:
        if name not in point.percentiles:
            continue
        if groups and abs(groups[-1][-1].end - point.start) < 1e-6:
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def _scale_latency(axes: Any, low: float, high: float, spans: list[Span], limits: Sequence[Limit]) -> None:
    """From zero, or logarithmic over more than 20x.

    A limit within 4x of the data is drawn where its phase is, a farther one is named.
    """
    shown = [(limit, span) for limit in limits for span in spans if span.name == limit.phase]
    near = [(limit, span) for limit, span in shown if limit.seconds <= high * 4]
    top = max([high, *(limit.seconds for limit, _ in near)])
    if top / low > 20:
        axes.set_yscale("log")
        low, top = low / 1.5, top * 1.6
        tick_latencies(axes.yaxis, low, top, 5)
        axes.set_ylim(low, top)
    else:
        axes.yaxis.get_major_locator().set_params(nbins=4)
        axes.yaxis.set_major_formatter(lambda value, _: short_duration(round(value, 7)))
        axes.set_ylim(0, top * 1.15)
    for limit, span in near:
        axes.hlines(limit.seconds, span.start, span.end, color=VERMILLION, linewidth=1.1, linestyle=DASHED)
        axes.text(span.end, limit.seconds, limit.words, color=VERMILLION, va="bottom", ha="right")
    far = [limit.words if len(spans) == 1 else f"{span.name} {limit.words}" for limit, span in shown[len(near) :]]
    if far:
        axes.text(0.99, 0.97, f"↑ {', '.join(far)}", transform=axes.transAxes, color=VERMILLION, va="top", ha="right")


def _mark_failures(axes: Any, failed: list[Point]) -> str:
    """Mark the intervals with a failed request at the foot of the axes; give the words that say so."""
    if not failed:
        return ""
    middles, anchor = [(point.start + point.end) / 2 for point in failed], axes.get_xaxis_transform()
    axes.plot(middles, [_FOOT] * len(failed), "x", color=VERMILLION, transform=anchor, markersize=5)
    return "× failed"  # noqa: RUF001


def _label_ends(axes: Any, ends: list[tuple[str, float, str]], foot: str = "") -> None:
    """Write each line's name at its right end, and `foot` below, moved apart where they would overlap."""
    labels = [(name, share_along(axes.get_yscale(), y, *axes.get_ylim()), colour) for name, y, colour in ends]
    if foot:
        labels.append((foot, _FOOT, VERMILLION))
    height_pt = axes.get_position().height * axes.figure.get_figheight() * 72
    sizes = [1.25 * FONT_PT / height_pt] * len(labels)
    for (name, _, colour), at in zip(labels, spread([at for _, at, _ in labels], sizes, -0.3, 1.2), strict=True):
        axes.text(1.015, at, name, transform=axes.transAxes, color=colour, va="center")


def _draw_lag(axes: Any, loops: list[Entry], lags: list[Lag]) -> None:
    """Draw the largest lag per interval of every loop, the strictest limit, and each stall by what caused it."""
    limit = min((found for loop in loops if (found := number(loop.get("limit_s")))), default=None)
    marked = stalls(loops)
    levels = [level for lag in lags for _, _, level in lag.steps] + [mark.length for mark in marked]
    high = max([*levels, limit or 0.0, 10 * _LEAST_LAG_S]) * 2.5
    axes.set_yscale("log")
    axes.set_ylim(_LEAST_LAG_S, high)
    tick_latencies(axes.yaxis, _LEAST_LAG_S, high, 4)
    ends = []
    for lag in lags:
        colour = _LOOP_COLOURS.get(lag.name, ORANGE)
        seen = [max(level, _LEAST_LAG_S) for _, _, level in lag.steps]
        edges = [lag.steps[0][0]] + [end for _, end, _ in lag.steps]
        line = _LOOP_LINES.get(lag.name, "-")
        axes.stairs(seen, edges, baseline=None, color=colour, linewidth=1.3, linestyle=line)
        ends.append((lag.name, seen[-1], colour))
    for cause, (sign, colour, _) in _CAUSES.items():
        at = [(mark.at, mark.length) for mark in marked if mark.cause == cause]
        if at:
            axes.plot(*zip(*at, strict=True), sign, color=colour, markersize=4.5, alpha=0.8, clip_on=False)
    _label_ends(axes, ends)
    _head_strip(axes, limit, marked)


def _head_strip(axes: Any, limit: float | None, marked: list[Mark]) -> None:
    words = "lag of the event loop, largest"
    if limit is not None:
        axes.axhline(limit, color=VERMILLION, linewidth=1, linestyle=DASHED)
        words = f"largest lag, limit {short_duration(limit)}"
    axes.text(0, 1.06, words, transform=axes.transAxes, color=MUTED, va="bottom")
    signs = _signs(marked, of_which=True)
    if sum(width_of(text, axes) for text, _ in signs) > 1:
        signs = _signs(marked, of_which=False)
    widths = [width_of(text, axes) for text, _ in signs]
    height = 1.06 if width_of(words, axes) + sum(widths) <= 1 else 1.3
    right = 1.0
    for (text, colour), taken in zip(reversed(signs), reversed(widths), strict=True):
        axes.text(right, height, text, transform=axes.transAxes, color=colour, va="bottom", ha="right")
        right -= taken


def _signs(marked: list[Mark], of_which: bool) -> list[tuple[str, str]]:
    """Say what the marks mean, and of which loops they are: (words, colour)."""
    signs = []
    for cause, (_, colour, sign) in _CAUSES.items():
        loops = dict.fromkeys(mark.loop for mark in marked if mark.cause == cause)
        if loops:
            signs.append((f"{sign}: {', '.join(loops)}" if of_which and cause != "outside" else sign, colour))
    return signs


def _mark_phases(rows: list[Any], spans: list[Span]) -> None:
    upper, several = rows[0], len(spans) > 1
    words = "latency of successful requests (lower is better)"
    upper.text(0, 1.17 if several else 1.04, words, transform=upper.transAxes, color=MUTED, va="bottom")
    if not several:
        return
    start, end = upper.get_xlim()
    for place, span in enumerate(spans):
        for axes in rows if place % 2 == 0 else ():
            axes.axvspan(span.start, span.end, color=GRID, alpha=0.4, linewidth=0, zorder=0)
    label_row(upper, 1.03, [(span.name, ((span.start + span.end) / 2 - start) / (end - start), INK) for span in spans])
