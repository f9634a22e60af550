"""The latency limits that charts show, read from the criteria of the results."""

from collections.abc import Mapping
from typing import Any

from asyncload_lib.errors import ConfigurationError
from asyncload_lib.report.entries import Entry, mappings
from asyncload_lib.verdict.grammar import parse
from asyncload_lib.verdict.metrics import DIMENSIONS

__all__ = ["latency_limits"]


def latency_limits(metric: Entry, results: Mapping[str, Any]) -> list[float]:
    """Give the upper limits (s) on p95 and its like of this scenario's headline phase, without repeats."""
    found = set()
    for row in mappings(results.get("criteria")):
        try:
            criterion = parse(str(row.get("name"))[:300])
        except ConfigurationError:
            continue  # a results file of a later version, or hostile: the tables show it, no line is drawn
        subject = criterion.subject
        whole = subject.endpoint is None and subject.phase in (None, metric.get("phase"))
        is_percentile = criterion.metric[:1] == "p" and criterion.metric[1:2].isdigit()
        if whole and is_percentile and subject.scenario == metric.get("scenario") and criterion.operator in ("<", "<="):
            found.add(criterion.value * DIMENSIONS["time"].get(criterion.unit, 0.0))
    return sorted(limit_s for limit_s in found if limit_s > 0)  # none at zero, or without a unit of time
