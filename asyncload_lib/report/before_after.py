"""Before and after drawn on a figure: one row per scenario, total times as two dots on a logarithmic axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asyncload_lib.report.canvas import BLUE, GRID, INK, MUTED, ORANGE, style_axes, tick_latencies
from asyncload_lib.report.entries import Entry, mapping
from asyncload_lib.report.numbers import duration, ratio, short_ratio
from asyncload_lib.report.table import scenario_title
from asyncload_lib.results.figures import number

__all__ = ["Pair", "draw_before_after", "pairs"]

_NAME = 36
_CEILING_PT = 14
_BELOW_PT = _CEILING_PT / 2 + 8
"""How far below its row a time stands: under the sign of the ceiling, which is often right above it."""

_WIDE = 2.0
"""Each time stands right under its own sign where they differ by this factor: beside it may be that of the ceiling."""


@dataclass(frozen=True)
class Pair:
    """Total times (s) of a scenario; `best_s`: the least that the ceiling allows."""

    name: str
    before_s: float
    after_s: float
    best_s: float | None
    ceiling: float | None


def pairs(metrics: Sequence[Entry]) -> list[Pair]:
    """Give the scenarios of which an improvement can be stated."""
    found = []
    for metric in metrics:
        baseline = mapping(metric.get("baseline"))
        before, after, speedup = map(
            number, (baseline.get("total_time"), metric.get("total_time"), baseline.get("speedup"))
        )
        if speedup is None or not before or not after or min(before, after) <= 0:
            continue
        ceiling = number(baseline.get("ceiling"))
        best = before / ceiling if ceiling is not None and ceiling >= 1 else None
        found.append(Pair(scenario_title(metric), before, after, best, ceiling))
    return found


def draw_before_after(figure: Any, rows: list[Pair]) -> None:
    """Draw `rows` from the top; shape tells before (square) from after (dot) where colour does not."""
    height_in = figure.get_figheight()
    axes = figure.add_axes((0.255, 0.5 / height_in, 0.72, 1 - 0.88 / height_in))
    style_axes(axes)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    times = [time for row in rows for time in (row.before_s, row.after_s, row.best_s) if time is not None]
    low, high = min(times) / 2.2, max(times) * 2.2
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    tick_latencies(axes.xaxis, low, high, 9)
    axes.set_ylim(len(rows) - 0.45, -0.6)
    axes.set_yticks(range(len(rows)), labels=[_short(row.name) for row in rows], color=INK)
    axes.set_xlabel("total time, logarithmic (left is better)", color=MUTED, labelpad=6)
    for place, row in enumerate(rows):
        _draw_row(axes, place, row)
    _legend(axes, has_ceiling=any(row.best_s is not None for row in rows))


def _draw_row(axes: Any, place: int, row: Pair) -> None:
    axes.plot([row.before_s, row.after_s], [place, place], color=MUTED, linewidth=1.6, zorder=2)
    if row.best_s is not None:
        axes.plot([row.best_s], [place], "|", color=INK, markersize=_CEILING_PT, markeredgewidth=1.6, zorder=2)
    axes.plot([row.before_s], [place], "s", color=ORANGE, markersize=8, zorder=3)
    axes.plot([row.after_s], [place], "o", color=BLUE, markersize=9, zorder=3)
    left, right = sorted((row.before_s, row.after_s))
    is_wide = right >= _WIDE * left  # else the two times would run into each other
    _write(axes, duration(left), left, place, (0 if is_wide else -8, -_BELOW_PT), "center" if is_wide else "right")
    _write(axes, duration(right), right, place, (0 if is_wide else 8, -_BELOW_PT), "center" if is_wide else "left")
    ceiling = "" if row.ceiling is None else f" (ceiling {short_ratio(row.ceiling)})"
    _write(axes, f"{ratio(row.before_s / row.after_s)}{ceiling}", math.sqrt(left * right), place, (0, 9), "center")


def _write(axes: Any, words: str, x: float, y: float, offset_pt: tuple[float, float], side: str) -> None:
    axes.annotate(words, (x, y), offset_pt, textcoords="offset points", color=INK, ha=side, va="center")


def _legend(axes: Any, *, has_ceiling: bool) -> None:
    signs = [("s", ORANGE, "before"), ("o", BLUE, "after")] + ([("|", INK, "ceiling")] if has_ceiling else [])
    for sign, colour, words in signs:
        axes.plot([], [], sign, color=colour, markersize=8, markeredgewidth=1.6, label=words)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.01, 0.97), ncols=3, frameon=False, labelcolor=MUTED, handletextpad=0.3
    )


def _short(name: str) -> str:
    """Break a name that tells the real number before that, and cut what does not fit."""
    return "\n".join(line if len(line) <= _NAME else f"{line[: _NAME - 1]}…" for line in name.split(" - ", 1))
