"""Every chart of a report, drawn; a chart that cannot be drawn says why in its place and costs nothing else."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import escape

from asyncload_lib.report.entries import mappings
from asyncload_lib.report.limits import latency_limits
from asyncload_lib.report.text import clean

__all__ = ["drawings"]

_log = logging.getLogger(__name__)


def drawings(results: Mapping[str, Any]) -> dict[str, str]:
    """Give the inline SVG per chart: `before-after`, `<index of the metric>-distribution` and `<index>-time`."""
    from asyncload_lib.report.charts import before_after, distribution, over_time

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
