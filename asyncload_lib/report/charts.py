"""Two charts per scenario, as inline SVG: how latency is distributed, and how it went over time above the loop's lag.

matplotlib is imported when the first chart is drawn, without pyplot and without a display.
"""

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any

from .canvas import (
    BLUE,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    RC,
    SKY,
    VERMILLION,
    inline_svg,
    latency_ticks,
    spread,
    style_axes,
)
from .series import Span, lag_series, stalls, timeline
from .table import Entry, mappings
from .text import clean
from .units import duration, number

__all__ = ["distribution", "over_time"]

_PERCENTILES = (("p50", SKY, "-"), ("p95", BLUE, "-"), ("p99", PURPLE, "-"))
_CAUSE_MARKS = {"loop": ("v", VERMILLION), "gil": ("s", ORANGE), "gc": ("o", MUTED), "machine": ("x", MUTED)}
_LAG_COLOURS = (BLUE, SKY, MUTED, PURPLE)
_WIDTH_IN, _DPI = 5.6, 72


def _figure(height_in: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, facecolor="none")


def _render(draw: Any, salt: str) -> str:
    """Run `draw` under the chart settings and give the figure as inline SVG.

    A name in a script that the measuring font lacks is drawn by the reader's own fonts: no warning is owed for it.
    """
    import matplotlib

    settings: Any = {**RC, "svg.hashsalt": salt}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph.*")
        stream = io.StringIO()
        draw().savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return inline_svg(stream.getvalue())


def distribution(metric: Entry, limits: Sequence[tuple[str, float]], salt: str = "") -> str | None:
    """Draw the latency distribution of the headline phase; None without latencies.

    `limits`: (name, seconds) of the criteria on latency. Latencies on a logarithmic axis when they span more than 3x.
    """
    bars = [bar for bar in mappings(metric.get("distribution")) if _is_bar(bar)]
    if not bars:
        return None
    return _render(lambda: _draw_distribution(metric, bars, limits), f"d{salt}")


def _is_bar(bar: Entry) -> bool:
    low, high = number(bar.get("low")), number(bar.get("high"))
    return low is not None and high is not None and high > 0 and low < high


def _draw_distribution(metric: Entry, bars: list[Entry], limits: Sequence[tuple[str, float]]) -> Any:
    edges, ok, failed = _rebin(bars)
    figure = _figure(3.1)
    axes = figure.add_axes((0.09, 0.19, 0.86, 0.66))
    style_axes(axes)
    axes.stairs(ok, edges, fill=True, color=BLUE, linewidth=0)
    if any(failed):
        total = [a + b for a, b in zip(ok, failed, strict=True)]
        axes.stairs(total, edges, baseline=ok, fill=True, facecolor="none", edgecolor=VERMILLION, hatch="/////", lw=0.8)
    low, high = edges[0], edges[-1]
    _latency_axis(axes.xaxis, axes.set_xscale, low, high)
    axes.set_xlim(low, high)
    axes.set_ylim(0, max(a + b for a, b in zip(ok, failed, strict=True)) * 1.04)
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
    lines = [(name, number(metric.get(f"{name}_latency")), INK) for name, _, _ in _PERCENTILES]
    lines += [(f"limit {duration(limit)}", limit, VERMILLION) for _, limit in limits]
    _vertical_lines(axes, [(name, at, colour) for name, at, colour in lines if at is not None], low, high)
    axes.set_xlabel("latency: lower (left) is better", color=MUTED, fontsize=10, labelpad=6)
    axes.text(0, 1.17, "requests", transform=axes.transAxes, color=MUTED, fontsize=10, ha="left", va="bottom")
    if any(failed):
        _key(figure, (("ok", BLUE, None), ("failed", VERMILLION, "/////")))
    return figure


def _key(figure: Any, entries: Sequence[tuple[str, str, str | None]]) -> None:
    from matplotlib.patches import Rectangle

    x = 0.95 - 0.13 * len(entries)
    for words, colour, hatch in entries:
        face = "none" if hatch else colour
        box = Rectangle((x, 0.935), 0.022, 0.04, facecolor=face, edgecolor=colour, hatch=hatch, linewidth=0.8)
        figure.add_artist(box)
        figure.text(x + 0.03, 0.955, words, color=MUTED, fontsize=10, va="center")
        x += 0.13


def _rebin(bars: list[Entry]) -> tuple[list[float], list[float], list[float]]:
    """Join fine bars so that a small sample shows its shape (Rice's rule, 12 to 80 logarithmic bins)."""
    total = sum((number(bar.get("ok")) or 0) + (number(bar.get("failed")) or 0) for bar in bars)
    low = min(max(float(bar["low"]), 1e-7) for bar in bars)
    high = max(float(bar["high"]) for bar in bars)
    if high / low < 1.2:
        low, high = low / 1.1, high * 1.1
    bins = int(min(80, max(12, 2 * max(total, 1) ** (1 / 3))))
    step = math.log(high / low) / bins
    edges = [low * math.exp(step * place) for place in range(bins + 1)]
    counts = {"ok": [0.0] * bins, "failed": [0.0] * bins}
    for bar in bars:
        middle = math.sqrt(max(float(bar["low"]), 1e-7) * float(bar["high"]))
        place = min(bins - 1, max(0, int(math.log(middle / low) / step)))
        for outcome, column in counts.items():
            column[place] += max(0.0, number(bar.get(outcome)) or 0.0)
    return edges, counts["ok"], counts["failed"]


def _latency_axis(axis: Any, set_scale: Any, low: float, high: float) -> None:
    if high / low > 3:
        set_scale("log")
        ticks, labels = latency_ticks(low, high)
        axis.set_ticks(ticks, labels=labels)
        axis.set_ticks([], minor=True)
    else:
        axis.set_major_formatter(lambda value, _: duration(round(value, 7)) if value else "0")
        axis.get_major_locator().set_params(nbins=5)


def _vertical_lines(axes: Any, lines: list[tuple[str, float, str]], low: float, high: float) -> None:
    """Draw labelled marks; what lies beyond the axis is written at its border with an arrow."""
    log = axes.get_xscale() == "log"

    def place(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        return min(1.0, max(0.0, share))

    inside = [line for line in lines if low <= line[1] <= high]
    beyond = [line for line in lines if not low <= line[1] <= high]
    for _, at, colour in inside:
        dashed = colour == VERMILLION
        axes.axvline(at, color=colour, linewidth=1.2 if dashed else 1, linestyle=(0, (5, 2)) if dashed else "-")
    centres = [min(0.97, max(0.03, x)) for x in spread([place(at) for _, at, _ in inside], 0.085)]
    for (words, _, colour), x in zip(inside, centres, strict=True):
        axes.text(x, 1.03, words, transform=axes.transAxes, color=colour, fontsize=10, ha="center", va="bottom")
    for row, (words, at, colour) in enumerate(beyond):
        left = at < low
        told, x = (f"← {words}", 0.0) if left else (f"{words} →", 1.0)
        side = "left" if left else "right"
        axes.text(x, 0.93 - 0.1 * row, told, transform=axes.transAxes, color=colour, fontsize=10, ha=side, va="center")


def over_time(metric: Entry, limits: Sequence[tuple[str, float]], salt: str = "") -> str | None:
    """Draw percentiles per second of all phases, one after another, above the lag of the event loops; None if empty."""
    spans, lags = timeline(metric), lag_series(mappings(metric.get("event_loops")))
    if not any(span.points for span in spans) and not lags:
        return None
    return _render(lambda: _draw_over_time(metric, spans, lags, limits), f"t{salt}")


def _draw_over_time(metric: Entry, spans: list[Span], lags: Any, limits: Sequence[tuple[str, float]]) -> Any:
    figure = _figure(3.9 if lags else 2.9)
    upper = figure.add_axes((0.125, 0.46, 0.76, 0.42) if lags else (0.125, 0.2, 0.76, 0.62))
    style_axes(upper)
    _draw_percentiles(upper, spans, limits)
    bottom = upper
    if lags:
        bottom = figure.add_axes((0.125, 0.135, 0.76, 0.22), sharex=upper)
        style_axes(bottom)
        _draw_lag(bottom, mappings(metric.get("event_loops")), lags)
        upper.tick_params(axis="x", labelbottom=False, length=0)
    ends = [span.end for span in spans] + [point[1] for _, points in lags for point in points]
    bottom.set_xlim(0, max(ends, default=1.0) or 1.0)
    bottom.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    bottom.xaxis.get_major_locator().set_params(nbins=6)
    bottom.set_xlabel("time: phases one after another" if len(spans) > 1 else "time", color=MUTED, fontsize=10)
    _phase_bands(upper, bottom if lags else None, spans)
    return figure


def _draw_percentiles(axes: Any, spans: list[Span], limits: Sequence[tuple[str, float]]) -> None:
    values = [point[name] for span in spans for point in span.points for name, _, _ in _PERCENTILES if point[name]]
    ends = []
    for name, colour, _ in _PERCENTILES:
        last = None
        for span in spans:
            known = [point for point in span.points if point[name] is not None]
            for group in _unbroken(known):
                edges = [point["t"] for point in group] + [group[-1]["t"] + group[-1]["width"]]
                levels = [point[name] for point in group]
                axes.stairs(levels, edges, baseline=None, color=colour, linewidth=1.8)
                last = levels[-1]
        if last is not None:
            ends.append((name, last, colour))
    if not values:
        axes.text(0.5, 0.5, "no successful request", transform=axes.transAxes, color=MUTED, ha="center", va="center")
        axes.set_yticks([])
        return
    _vertical_extent(axes, min(values), max(values), [limit for _, limit in limits])
    _right_labels(axes, ends)
    failed = [(point["t"] + point["width"] / 2, point["failed"]) for span in spans for point in span.points]
    failed = [at for at, number_failed in failed if number_failed]
    if failed:
        marks = axes.get_xaxis_transform()
        axes.plot(failed, [0.03] * len(failed), "x", color=VERMILLION, transform=marks, markersize=5, clip_on=False)
        axes.text(1.015, 0.03, "x failed", transform=axes.transAxes, color=VERMILLION, fontsize=10, va="center")


def _unbroken(points: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Split a series where seconds without a request lie between: no line is drawn through nothing."""
    groups: list[list[dict[str, Any]]] = []
    for point in points:
        if groups and abs(groups[-1][-1]["t"] + groups[-1][-1]["width"] - point["t"]) < 1e-6:
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def _vertical_extent(axes: Any, low: float, high: float, limits: Sequence[float]) -> None:
    """Choose the scale of latency; a limit within 4x of the data is drawn, a farther one is named at the border."""
    near = [limit for limit in limits if limit <= high * 4]
    top = max([high, *near])
    if top / low > 20:
        axes.set_yscale("log")
        bottom, top = low / 1.5, top * 1.5
        ticks, labels = latency_ticks(bottom, top, 5)
        axes.set_yticks(ticks, labels=labels)
        axes.set_yticks([], minor=True)
    else:
        bottom, top = 0.0, top * 1.15
        axes.yaxis.get_major_locator().set_params(nbins=4)
        axes.yaxis.set_major_formatter(lambda value, _: duration(round(value, 7)) if value else "0")
    axes.set_ylim(bottom, top)
    for limit in near:
        axes.axhline(limit, color=VERMILLION, linewidth=1.2, linestyle=(0, (5, 2)))
        words = f"limit {duration(limit)}"
        anchor = axes.get_yaxis_transform()
        axes.text(0.005, limit, words, transform=anchor, color=VERMILLION, fontsize=10, va="bottom")
    far = [limit for limit in limits if limit not in near]
    if far:
        words = f"limit {duration(min(far))} ↑"
        axes.text(0.005, 0.99, words, transform=axes.transAxes, color=VERMILLION, fontsize=10, va="top")


def _right_labels(axes: Any, ends: list[tuple[str, float, str]]) -> None:
    """Write each line's name at its right end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    log = axes.get_yscale() == "log"
    share = [math.log(y / low) / math.log(high / low) if log else (y - low) / (high - low) for _, y, _ in ends]
    height = axes.get_position().height * axes.figure.get_figheight() * _DPI
    for (name, _, colour), at in zip(ends, spread(share, 12.5 / height), strict=True):
        words = clean(name, 14)
        axes.text(1.015, at, words, transform=axes.transAxes, color=colour, fontsize=10, va="center", weight="bold")


def _draw_lag(axes: Any, loops: list[Entry], lags: list[tuple[str, list[tuple[float, float, float]]]]) -> None:
    """Largest lag per interval of every loop, the limit, and each stall marked by what caused it."""
    ends = []
    for place, (name, points) in enumerate(lags):
        colour = _LAG_COLOURS[place % len(_LAG_COLOURS)]
        edges = [points[0][0]] + [end for _, end, _ in points]
        levels = [max(lag, 1e-4) for _, _, lag in points]
        axes.stairs(levels, edges, baseline=None, color=colour, linewidth=1.4)
        ends.append((name, levels[-1], colour))
    limit = next((found for found in (number(loop.get("limit_s")) for loop in loops) if found), None)
    marked = stalls(loops)
    every = [level for _, points in lags for _, _, level in points] + [length for _, length, _ in marked]
    axes.set_yscale("log")
    low, high = 1e-4, max([*every, limit or 0, 1e-3]) * 2.5
    axes.set_ylim(low, high)
    ticks, labels = latency_ticks(low, high, 4)
    axes.set_yticks(ticks, labels=labels)
    axes.set_yticks([], minor=True)
    if limit:
        axes.axhline(limit, color=VERMILLION, linewidth=1, linestyle=(0, (5, 2)))
    for cause, (sign, colour) in _CAUSE_MARKS.items():
        at = [(t, length) for t, length, found in marked if found == cause]
        if at:
            axes.plot([t for t, _ in at], [y for _, y in at], sign, color=colour, markersize=5, linestyle="none")
    _right_labels(axes, ends)
    told = f"loop lag (limit {duration(limit)})" if limit else "loop lag"
    signs = {"loop": "▼ loop", "gil": "■ GIL", "gc": "● GC", "machine": "× machine"}  # noqa: RUF001
    causes = [signs[cause] for cause in _CAUSE_MARKS if any(found == cause for _, _, found in marked)]
    axes.text(0, 1.05, told, transform=axes.transAxes, color=MUTED, fontsize=10, va="bottom")
    if causes:
        words = "stalls: " + "  ".join(causes)
        axes.text(1, 1.05, words, transform=axes.transAxes, color=VERMILLION, fontsize=10, va="bottom", ha="right")


def _phase_bands(upper: Any, lower: Any, spans: list[Span]) -> None:
    words = "latency of successful requests: lower is better"
    raised = 1.16 if len(spans) > 1 else 1.04
    upper.text(0, raised, words, transform=upper.transAxes, color=MUTED, fontsize=10, va="bottom")
    if len(spans) < 2:
        return
    for place, span in enumerate(spans):
        for axes in filter(None, (upper, lower)):
            if place % 2 == 0:
                axes.axvspan(span.start, span.end, color=GRID, alpha=0.35, linewidth=0)
        anchor = upper.get_xaxis_transform()
        middle = (span.start + span.end) / 2
        upper.text(middle, 1.02, clean(span.name, 24), transform=anchor, color=INK, fontsize=10, ha="center")
