"""The drawing surface of the charts: palette, axes, labels that do not collide, and inline SVG that follows the page.

matplotlib is imported by `charts.py` alone; what needs its objects gets them as arguments.
"""

import re
from collections.abc import Sequence
from typing import Any

from .units import duration

__all__ = ["BLUE", "GRID", "INK", "MUTED", "ORANGE", "PURPLE", "RC", "SKY", "VERMILLION"]
__all__ += ["inline_svg", "latency_ticks", "spread", "style_axes"]

# Okabe & Ito (2008), told apart by every kind of colour vision.
BLUE, ORANGE, VERMILLION, SKY, PURPLE = "#0072b2", "#e69f00", "#d55e00", "#56b4e9", "#cc79a7"
INK, MUTED, GRID = "#1b1f24", "#5b6570", "#d5dae0"

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
    "font.size": 11,
    "font.family": "DejaVu Sans",  # shipped with matplotlib: text is measured the same everywhere
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.8,
    "path.simplify": True,
}


def style_axes(axes: Any) -> None:
    """Quiet axes: horizontal grid lines, no frame, small muted tick labels."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.set_facecolor("none")
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, colors=MUTED, labelsize=10, pad=4)
    axes.tick_params(axis="x", length=3, color=MUTED)


def latency_ticks(low: float, high: float, most: int = 6) -> tuple[list[float], list[str]]:
    """Ticks at 1, 2 and 5 of every decade between `low` and `high`, thinned to `most`, and their labels."""
    decades = range(-7, 5)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**power for power in decades for step in steps if low <= step * 10.0**power <= high]
        if len(ticks) <= most:
            break
    else:
        ticks = ticks[:: -(-len(ticks) // most)]
    return ticks, [duration(tick).replace(".00", "").replace(".0 ", " ") for tick in ticks]


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Move labels apart until neighbours are `gap` away from each other, keeping their order and centre."""
    order = sorted(range(len(positions)), key=lambda place: positions[place])
    placed = [positions[place] for place in order]
    for _ in range(50):
        moved = False
        for left in range(len(placed) - 1):
            short = gap - (placed[left + 1] - placed[left])
            if short > 1e-9:
                placed[left] -= short / 2
                placed[left + 1] += short / 2
                moved = True
        if not moved:
            break
    result = [0.0] * len(placed)
    for place, value in zip(order, placed, strict=True):
        result[place] = value
    return result


_HEAD = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<style.*?</style>|<metadata>.*?</metadata>", re.DOTALL)
_GROUP_ID = re.compile(r'<g id="[^"]*">')
_FONT_FAMILY = re.compile(r" ?font-family: [^;\"]*;?")
_FIXED_SIZE = re.compile(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"')
_NO_ROTATION = re.compile(r' transform="rotate\(-0 [^"]*\)"')
_COLOUR = re.compile("|".join(map(re.escape, _THEME)))


def inline_svg(svg: str) -> str:
    """Make matplotlib's SVG part of the page: no prolog, no repeated ids, the page's font, and colours by name.

    Colours become custom properties so that one drawing serves light, dark and print. The text in it is escaped by
    matplotlib; only tags that matplotlib wrote itself are touched.
    """
    svg = _HEAD.sub("", svg)
    svg = _FIXED_SIZE.sub(r'<svg aria-hidden="true" \1', svg)
    svg = _GROUP_ID.sub("<g>", svg)
    # Text from outside stands between tags: no substitution below may reach it.
    parts = re.split(r"(<[^>]*>)", svg)
    for place in range(1, len(parts), 2):
        tag = _NO_ROTATION.sub("", _FONT_FAMILY.sub("", parts[place]))
        parts[place] = _COLOUR.sub(lambda found: f"var({_THEME[found[0]]})", tag)
    return re.sub(r">\s+<", "><", "".join(parts)).strip()
