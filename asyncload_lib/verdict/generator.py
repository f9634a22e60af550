"""Whether the load generator could be trusted: every process within its limits, or the run is invalid."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["judge_generator"]

_WORDS = {
    "cpu_percent_max": ("CPU", "{:.0f} %"),
    "loop_lag_p99": ("event-loop lag p99", "{:.3g} s"),
    "hub_lag_p99": ("hub lag p99", "{:.3g} s"),
    "send_delay_p99": ("send delay p99", "{:.3g} s"),
}


def judge_generator(processes: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> dict[str, Any]:
    """Return the "generator" part of the results.

    `processes`: figures of each process, several rows for one process are its scenarios; the worst counts. `limits`: by
    the same keys. A figure that is None was not measured and says nothing; no process at all is not valid.
    """
    worst: dict[str, dict[str, Any]] = {}
    for row in processes:
        kept = worst.setdefault(row["process"], dict.fromkeys(_WORDS))
        for key in _WORDS:
            if row.get(key) is not None:
                kept[key] = row[key] if kept[key] is None else max(kept[key], row[key])
    reasons = [
        f"{process}: {words} was {form.format(figures[key])}, over the limit of {form.format(limits[key])}"
        for process, figures in worst.items()
        for key, (words, form) in _WORDS.items()
        if figures[key] is not None and figures[key] > limits[key]
    ]
    if not worst:
        reasons.append("no generator process reported how it was doing")
    return {
        "valid": not reasons,
        "reasons": reasons,
        "processes": [{"process": process, **figures, "limits": dict(limits)} for process, figures in worst.items()],
    }
