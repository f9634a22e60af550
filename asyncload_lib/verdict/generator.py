"""Whether the load generator could be trusted: every process within its limits, or the run is invalid."""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import ge
from typing import Any

from asyncload_lib.results.wording import beside_limit

__all__ = ["judge_generator"]

_WORDS = {
    "cpu_percent_max": ("CPU", "%"),
    "loop_lag_p99": ("event-loop lag p99", "s"),
    "hub_lag_p99": ("hub lag p99", "s"),
    "send_delay_p99": ("send delay p99", "s"),
}
_OPTIONAL = {"send_delay_p99"}
"""Not measured where no user was released: in a run without scenarios, on a master, on a worker with none."""


def judge_generator(processes: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> dict[str, Any]:
    """Return the "generator" part of the results.

    `processes`: figures of each process, several rows for one process are its scenarios; the worst counts. `limits`: by
    the same keys. What was not measured is not valid either: a figure that is None, or no process at all.
    """
    worst: dict[str, dict[str, Any]] = {}
    unmeasured: dict[tuple[str, str], None] = {}
    for row in processes:
        kept = worst.setdefault(row["process"], dict.fromkeys(_WORDS))
        for key in _WORDS:
            if row.get(key) is not None:
                kept[key] = row[key] if kept[key] is None else max(kept[key], row[key])
            elif key not in _OPTIONAL:
                unmeasured[row["process"], key] = None
    reasons = [
        f"{process}: {words} was {beside_limit(figures[key], partial(ge, limits[key]))} {unit}, "
        f"over the limit of {limits[key]:.12g} {unit}"
        for process, figures in worst.items()
        for key, (words, unit) in _WORDS.items()
        if figures[key] is not None and figures[key] > limits[key]
    ]
    reasons += [f"{process}: {_WORDS[key][0]} was not measured" for process, key in unmeasured]
    if not worst:
        reasons.append("no generator process reported its own health")
    return {
        "valid": not reasons,
        "reasons": reasons,
        "processes": [{"process": process, **figures, "limits": dict(limits)} for process, figures in worst.items()],
    }
