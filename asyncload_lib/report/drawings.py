"""Every chart of a report, drawn; a chart that cannot be drawn says why in its place and costs nothing else."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import escape

from asyncload_lib.report.limits import latency_limits
from asyncload_lib.report.table import mappings
from asyncload_lib.report.text import clean

__all__ = ["drawings"]

_log = logging.getLogger(__name__)


def drawings(results: Mapping[str, Any]) -> dict[str, str]:
    """Give the inline SVG per chart: key `<index of the metric>-distribution` and `<index>-time`."""
    from asyncload_lib.report.charts import distribution, over_time

    drawn: dict[str, str] = {}
    for index, metric in enumerate(mappings(results.get("metrics"))):
        limits = latency_limits(metric, results)
        for name, draw in (("distribution", distribution), ("time", over_time)):
            svg = _drawn(draw, metric, limits, f"{index}{name}")
            if svg is not None:
                drawn[f"{index}-{name}"] = svg
    return drawn


def _drawn(draw: Callable[..., str | None], metric: Any, limits: Any, salt: str) -> str | None:
    try:
        return draw(metric, limits, salt)
    except Exception as problem:
        _log.exception("a chart could not be drawn")
        words = clean(f"{type(problem).__name__}: {problem}", 200)
        return f"<p>This chart could not be drawn: {escape(words)}</p>"
