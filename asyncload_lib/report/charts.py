"""The charts, as inline SVG: before and after of all scenarios; of each, how latency is distributed and went over time.

The one importer of matplotlib: when the first chart is drawn, without pyplot and without a display.
"""

import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import escape

from asyncload_lib.report.before_after import draw_before_after, pairs
from asyncload_lib.report.canvas import RC, inline_svg
from asyncload_lib.report.distribution import draw_distribution, latency_bars
from asyncload_lib.report.entries import Entry, mappings
from asyncload_lib.report.limits import Limit, latency_limits
from asyncload_lib.report.loops import in_order
from asyncload_lib.report.overtime import draw_over_time
from asyncload_lib.report.series import lag_series, timeline
from asyncload_lib.report.text import clean

__all__ = ["before_after", "distribution", "drawings", "over_time"]

_log = logging.getLogger(__name__)

_SIZE_IN = (5.6, 3.8)
_WIDE_IN = 11.2


def drawings(results: Mapping[str, Any]) -> dict[str, str]:
    """Give every chart of a report by its place: `before-after`, `<index of the metric>-distribution`, `<index>-time`.

    One that cannot be drawn says why in its place and costs nothing else.
    """
    metrics = mappings(results.get("metrics"))
    drawn = {"before-after": _drawn(before_after, metrics)}
    for index, metric in enumerate(metrics):
        limits = latency_limits(metric, results)
        for name, draw in (("distribution", distribution), ("time", over_time)):
            drawn[f"{index}-{name}"] = _drawn(draw, metric, limits, f"{index}{name}")
    return {place: svg for place, svg in drawn.items() if svg is not None}


def _drawn(draw: Callable[..., str | None], *what: Any) -> str | None:
    try:
        return draw(*what)
    except Exception as problem:
        _log.exception("a chart could not be drawn")
        words = clean(f"{type(problem).__name__}: {problem}", 200)
        return f"<p>This chart could not be drawn: {escape(words)}</p>"


def before_after(metrics: Sequence[Entry], salt: str = "") -> str | None:
    """Draw total time before and after of every scenario that has both; None where none has."""
    found = pairs(metrics)
    size = (_WIDE_IN, 1.0 + 0.62 * len(found))
    return _render(lambda figure: draw_before_after(figure, found), f"b{salt}", size) if found else None


def distribution(metric: Entry, limits: Sequence[Limit], salt: str = "") -> str | None:
    """Draw the latency distribution of the headline phase; None without latencies."""
    bars = latency_bars(metric)
    return _render(lambda figure: draw_distribution(figure, metric, bars, limits), f"d{salt}") if bars else None


def over_time(metric: Entry, limits: Sequence[Limit], salt: str = "") -> str | None:
    """Draw percentiles of all phases above the lag of the event loops; None without either."""
    loops = in_order(mappings(metric.get("event_loops")))
    spans, lags = timeline(metric), lag_series(loops)
    return (
        _render(lambda figure: draw_over_time(figure, spans, lags, loops, limits), f"t{salt}")
        if spans or lags
        else None
    )


def _render(draw: Callable[[Any], None], salt: str, size_in: tuple[float, float] = _SIZE_IN) -> str:
    """Give what `draw` draws as inline SVG; `salt` keeps its ids apart from those of other charts on the page.

    A sign that the measuring font lacks is drawn by the reader's own fonts: no warning is owed for it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {**RC, "svg.hashsalt": salt}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph.*")
        figure = Figure(figsize=size_in, dpi=72, facecolor="none")
        draw(figure)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return inline_svg(stream.getvalue())
