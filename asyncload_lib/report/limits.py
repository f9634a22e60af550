"""The latency limits that charts show, read from the criteria of the results."""

import re
from collections.abc import Mapping
from typing import Any

from .table import Entry, mappings

__all__ = ["latency_limits"]

_LIMIT = re.compile(r"(?P<subject>\S+) (?P<metric>p\d+(?:\.\d+)?) <=? (?P<value>\d+(?:\.\d+)?) ?(?P<unit>us|ms|s)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def latency_limits(metric: Entry, results: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Give (percentile, seconds) of every upper limit on a percentile of this scenario as a whole."""
    found = []
    for criterion in mappings(results.get("criteria")):
        match = _LIMIT.fullmatch(str(criterion.get("name")).strip())
        if match and match["subject"] == metric.get("scenario"):
            found.append((match["metric"], float(match["value"]) * _SECONDS[match["unit"]]))
    return found
