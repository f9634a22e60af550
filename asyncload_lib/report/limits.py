"""The latency limits that charts show, read from the criteria of the results."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from asyncload_lib.errors import ConfigurationError
from asyncload_lib.report.entries import Entry, mapping, mappings
from asyncload_lib.report.numbers import short_duration
from asyncload_lib.results.figures import PERCENTILES
from asyncload_lib.verdict.grammar import parse
from asyncload_lib.verdict.metrics import DIMENSIONS
from asyncload_lib.verdict.observation import is_of

__all__ = ["Limit", "latency_limits"]


@dataclass(frozen=True)
class Limit:
    """An upper limit (s) on percentiles of a phase; `words` as a chart shows it: "p95 < 2 s"."""

    phase: str
    seconds: float
    words: str


def latency_limits(metric: Entry, results: Mapping[str, Any]) -> list[Limit]:
    """Give the upper limits on p95 and its like of this scenario's phases, the strictest first.

    A criterion that names no phase is on the headline phase. Percentiles with the same limit share one.
    """
    found: dict[tuple[str, float, str], list[str]] = {}
    for row in mappings(results.get("criteria")):
        try:
            criterion = parse(str(row.get("name"))[:300])
        except ConfigurationError:
            continue  # a results file of a later version, or hostile: the tables show it, no line is drawn
        subject, limit_s = criterion.subject, criterion.value * DIMENSIONS["time"].get(criterion.unit, 0.0)
        is_asked = criterion.metric in PERCENTILES and criterion.operator in ("<", "<=") and limit_s > 0
        run = {"run": mapping(results.get("run"))}
        if is_asked and subject.is_scenario and subject.endpoint is None and is_of(metric, subject, run):
            phase = subject.phase or str(metric.get("phase"))
            found.setdefault((phase, limit_s, criterion.operator), []).append(criterion.metric)
    limits = [
        Limit(phase, limit_s, f"{', '.join(dict.fromkeys(names))} {operator} {short_duration(limit_s)}")
        for (phase, limit_s, operator), names in found.items()
    ]
    return sorted(limits, key=lambda limit: limit.seconds)
