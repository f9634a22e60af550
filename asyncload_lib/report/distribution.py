"""The latency distribution drawn on a figure: successful and failed requests apart, percentiles and limits marked."""

import math
from collections.abc import Sequence
from typing import Any

from asyncload_lib.report.canvas import (
    BLUE,
    DASHED,
    INK,
    MUTED,
    VERMILLION,
    label_row,
    share_along,
    style_axes,
    tick_latencies,
)
from asyncload_lib.report.entries import Entry, mappings
from asyncload_lib.report.limits import Limit
from asyncload_lib.report.numbers import short_duration
from asyncload_lib.results.figures import number

__all__ = ["draw_distribution", "latency_bars"]

_SHORTEST_S = 1e-7


def latency_bars(metric: Entry) -> list[Entry]:
    """The bars of `distribution` that a logarithmic axis can hold."""
    bars = mappings(metric.get("distribution"))
    return [bar for bar in bars if (number(bar.get("high")) or 0) > max(number(bar.get("low")) or 0, _SHORTEST_S)]


def draw_distribution(figure: Any, metric: Entry, bars: list[Entry], limits: Sequence[Limit]) -> None:
    """Draw `bars`; latency is on a logarithmic axis where it spans more than 3x."""
    edges, ok, failed = _rebin(bars)
    axes = figure.add_axes((0.085, 0.145, 0.865, 0.7))
    style_axes(axes)
    total = [a + b for a, b in zip(ok, failed, strict=True)]
    axes.stairs(ok, edges, fill=True, color=BLUE, linewidth=0, label="ok")
    if any(failed):
        hatched = {"facecolor": "none", "edgecolor": VERMILLION, "hatch": "/////", "linewidth": 0.8}
        shown = [top if some else math.nan for top, some in zip(total, failed, strict=True)]
        axes.stairs(shown, edges, baseline=ok, fill=True, label="failed", **hatched)
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.02, 1.1), ncols=2, frameon=False, labelcolor=MUTED, handlelength=1.2
        )
    _scale(axes, edges[0], edges[-1])
    axes.set_ylim(0, max(total) * 1.04)
    axes.yaxis.get_major_locator().set_params(integer=True, nbins=5)
    scale = ", logarithmic" if axes.get_xscale() == "log" else ""
    axes.set_xlabel(f"latency of a request{scale} (left is better)", color=MUTED, labelpad=7)
    axes.text(0, 1.13, "requests", transform=axes.transAxes, color=MUTED, ha="left", va="bottom")
    _mark(axes, metric, limits, has_legend=any(failed))


def _scale(axes: Any, low: float, high: float) -> None:
    if high / low > 3:
        axes.set_xscale("log")
        tick_latencies(axes.xaxis, low, high)
    else:
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.xaxis.set_major_formatter(lambda value, _: short_duration(round(value, 7)))
    axes.set_xlim(low, high)


_LEGEND_WIDTH = 0.42
"""Of the width of the axes, where there is a legend."""


def _mark(axes: Any, metric: Entry, limits: Sequence[Limit], *, has_legend: bool) -> None:
    """Mark the headline phase's percentiles and limits; those beyond the axis are named in the head, on no line."""
    low, high = axes.get_xlim()
    percentiles = [(name, number(metric.get(f"{name}_latency")), INK) for name in ("p50", "p95", "p99")]
    lines = [(name, at, colour) for name, at, colour in percentiles if at is not None]
    labels: list[tuple[str, float, str]] = []
    beyond: list[str] = []
    lines += [(limit.words, limit.seconds, VERMILLION) for limit in limits if limit.phase == metric.get("phase")]
    for words, at, colour in lines:
        share = share_along(axes.get_xscale(), at, low, high)
        if 0 <= share <= 1:
            axes.axvline(at, color=colour, linewidth=1.1, linestyle=DASHED if colour == VERMILLION else "-")
            labels.append((words, share, colour))
        else:
            beyond.append(f"← {words}" if share < 0 else f"{words} →")
    right, words = 1 - _LEGEND_WIDTH if has_legend else 1, ", ".join(beyond)
    axes.text(right, 1.13, words, transform=axes.transAxes, color=VERMILLION, ha="right", va="bottom")
    label_row(axes, 1.03, labels)


def _rebin(bars: list[Entry]) -> tuple[list[float], list[float], list[float]]:
    """Join fine bars so that a small sample shows its shape: Rice's rule, 12 to 80 logarithmic bins.

    Fewer where the bars are wide: each bin holds two of them, or one would be empty only because a bar spans it.

    Gives edges (s), successful and failed requests per bin; no request is lost or counted twice.
    """
    lows = [max(number(bar.get("low")) or 0.0, _SHORTEST_S) for bar in bars]
    highs = [float(bar["high"]) for bar in bars]
    outcomes = [[max(0.0, number(bar.get(outcome)) or 0.0) for bar in bars] for outcome in ("ok", "failed")]
    low, high = min(lows), max(highs)
    if high / low < 1.2:
        low, high = low / 1.1, high * 1.1
    bins = int(min(80, max(12, 2 * sum(map(sum, outcomes)) ** (1 / 3))))
    widest = max(math.log(b / a) for a, b in zip(lows, highs, strict=True))
    bins = max(1, min(bins, int(math.log(high / low) / (2 * widest))))
    step = math.log(high / low) / bins
    edges = [low * math.exp(step * place) for place in range(bins + 1)]
    places = [min(bins - 1, int(math.log(math.sqrt(a * b) / low) / step)) for a, b in zip(lows, highs, strict=True)]
    joined = []
    for counts in outcomes:
        column = [0.0] * bins
        for place, counted in zip(places, counts, strict=True):
            column[place] += counted
        joined.append(column)
    return edges, joined[0], joined[1]
