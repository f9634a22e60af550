"""The drawing surface of the charts: palette, quiet axes, labels that do not collide, SVG that follows the page.

Nothing here imports matplotlib; what needs its objects gets them as arguments.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from asyncload_lib.report.numbers import short_duration

__all__ = [
    "BLUE",
    "DASHED",
    "FONT_PT",
    "GRID",
    "INK",
    "MUTED",
    "ORANGE",
    "PURPLE",
    "RC",
    "SKY",
    "VERMILLION",
    "inline_svg",
    "label_row",
    "latency_ticks",
    "share_along",
    "spread",
    "style_axes",
    "tick_latencies",
    "width_of",
]

# Okabe & Ito (2008), told apart by every kind of colour vision.
BLUE, ORANGE, VERMILLION, SKY, PURPLE = "#0072b2", "#e69f00", "#d55e00", "#56b4e9", "#cc79a7"
INK, MUTED, GRID = "#1b1f24", "#5b6570", "#d5dae0"
FONT_PT = 10
DASHED = (0, (5, 2))

_THEME = {
    BLUE: "--blue",
    ORANGE: "--orange",
    VERMILLION: "--vermillion",
    SKY: "--sky",
    PURPLE: "--purple",
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
}

RC: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: sharp, small, selectable
    "text.parse_math": False,  # a name with $ in it is a name, not a formula
    "font.size": FONT_PT,
    "font.family": "DejaVu Sans",  # shipped with matplotlib: text is measured the same everywhere
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.8,
}


def style_axes(axes: Any) -> None:
    """Quiet axes: horizontal grid lines, no frame, muted tick labels."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.set_facecolor("none")
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, colors=MUTED, labelsize=FONT_PT, pad=4)
    axes.tick_params(axis="x", length=3, color=MUTED)


def tick_latencies(axis: Any, low: float, high: float, most: int = 6) -> None:
    """Label a logarithmic axis with at most `most` latencies."""
    ticks, labels = latency_ticks(low, high, most)
    axis.set_ticks(ticks, labels=labels)
    axis.set_ticks([], minor=True)


def latency_ticks(low: float, high: float, most: int = 6) -> tuple[list[float], list[str]]:
    """Ticks at 1, 2 and 5 of every decade between `low` and `high`, thinned to `most`, and their labels."""
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in range(-7, 5) for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most:
            break
    ticks = ticks[:: -(-len(ticks) // most) or 1]
    return ticks, [short_duration(tick) for tick in ticks]


def share_along(scale: str, value: float, low: float, high: float) -> float:
    """Give how far along an axis from `low` to `high` a value lies: 0 to 1 within it; `scale`: "log" or "linear"."""
    if scale == "log":
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def width_of(words: str, axes: Any) -> float:
    """Give about how much of the width of the axes a label takes, with the gap to the next one."""
    width_pt: float = axes.get_position().width * axes.figure.get_figwidth() * 72
    return (len(words) * 0.58 * FONT_PT + 8) / width_pt


def spread(positions: Sequence[float], sizes: Sequence[float], low: float = 0.0, high: float = 1.0) -> list[float]:
    """Move labels apart until none overlaps its neighbour, in their order and, where there is room, in [low, high].

    `positions` and `sizes` (full widths or heights) have the unit of `low` and `high`.
    """
    order = sorted(range(len(positions)), key=lambda place: positions[place])
    at = [positions[place] for place in order]
    half = [sizes[place] / 2 for place in order]
    for _ in range(100):
        for place in range(len(at)):
            at[place] = min(high - half[place], max(low + half[place], at[place]))
        overlaps = [half[i] + half[i + 1] - (at[i + 1] - at[i]) for i in range(len(at) - 1)]
        if not any(overlap > 1e-6 for overlap in overlaps):
            break
        for place, overlap in enumerate(overlaps):
            if overlap > 0:
                at[place] -= overlap / 2
                at[place + 1] += overlap / 2
    result = [0.0] * len(at)
    for place, value in zip(order, at, strict=True):
        result[place] = value
    return result


def label_row(axes: Any, height: float, labels: Sequence[tuple[str, float, str]]) -> None:
    """Write a row of labels above the axes, none over another; `labels`: (words, place 0..1 on the x axis, colour)."""
    sizes = [width_of(words, axes) for words, _, _ in labels]
    places = spread([place for _, place, _ in labels], sizes, -0.06, 1.06)
    for (words, _, colour), x in zip(labels, places, strict=True):
        axes.text(x, height, words, transform=axes.transAxes, color=colour, ha="center", va="bottom")


_HEAD = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<style.*?</style>|<metadata>.*?</metadata>", re.DOTALL)
_TAG = re.compile(r"(<[^>]*>)")
_GROUP_ID = re.compile(r'^<g id="[^"]*"')
_FONT_FAMILY = re.compile(r" ?font-family: [^;\"]*;?")
_FIXED_SIZE = re.compile(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"')
_NO_ROTATION = re.compile(r' transform="rotate\(-0 [^"]*\)"')
_COLOUR = re.compile("|".join(map(re.escape, _THEME)))


def inline_svg(svg: str) -> str:
    """Make matplotlib's SVG part of the page: no prolog, no repeated ids, the page's font, and colours by name.

    Colours become custom properties, so that one drawing serves light, dark and print. matplotlib has escaped the
    text; only what stands inside tags is touched here.
    """
    svg = _FIXED_SIZE.sub(r'<svg aria-hidden="true" \1', _HEAD.sub("", svg))
    parts = _TAG.split(svg)
    for place in range(1, len(parts), 2):
        tag = _GROUP_ID.sub("<g", _NO_ROTATION.sub("", _FONT_FAMILY.sub("", parts[place])))
        parts[place] = _COLOUR.sub(lambda found: f"var({_THEME[found[0]]})", tag)
    return re.sub(r">\s+<", "><", "".join(parts)).strip()
