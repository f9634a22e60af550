"""Criteria: parsed and bound before a run (`grammar`), chosen for it (`defaults`), evaluated here on its results.

A criterion passes or fails on a value. Without one it has "no data", which is as bad as a failure; "not evaluated" is
what nobody asked for in this run, and says why.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from asyncload_lib.errors import ExitCode
from asyncload_lib.results.phase import is_baseline
from asyncload_lib.results.wording import beside_limit
from asyncload_lib.verdict.defaults import not_asked
from asyncload_lib.verdict.grammar import OPERATORS, Criterion, with_unit
from asyncload_lib.verdict.metrics import DIMENSIONS, Metric, metric_of
from asyncload_lib.verdict.observation import is_of, observe
from asyncload_lib.verdict.stalls import is_free_target

__all__ = ["evaluate", "verdict"]

_TIMES_OF_ANSWERS = frozenset({"p50", "p90", "p95", "p99", "p99.9", "avg", "max", "total_time", "degradation"})


def evaluate(criteria: Iterable[Criterion], results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row for each criterion on the JSON of a run.

    Keys: name, scenario, limit, observed (text), observed_value (number in the unit of the limit), verdict ("pass",
    "fail", "no data", "not evaluated"), why. No data, and NaN, is never a pass.
    """
    return [_row(criterion, results) for criterion in criteria]


def verdict(rows: Sequence[Mapping[str, Any]], run_status: str, *, any_failed: bool = False) -> tuple[str, ExitCode]:
    """Return the verdict of a run and its exit code; an interrupted run is the caller's to tell.

    A run that is invalid says nothing, an incomplete one certifies nothing; only then do criteria count. Where there
    are none, a failed request (`any_failed`) is what Locust fails on, too; without one the exit code is Locust's, and
    nothing was judged.
    """
    if run_status == "invalid":
        return "invalid", ExitCode.INVALID
    if run_status != "complete":
        return "incomplete", ExitCode.INCOMPLETE
    verdicts = {row["verdict"] for row in rows}
    if not verdicts:
        return ("fail", ExitCode.LOCUST_FAILURES) if any_failed else ("not evaluated", ExitCode.PASS)
    if verdicts - {"pass", "not evaluated"} or verdicts == {"not evaluated"}:
        return "fail", ExitCode.CRITERIA_FAILED
    return "pass", ExitCode.PASS


def _row(criterion: Criterion, results: Mapping[str, Any]) -> dict[str, Any]:
    row = {"name": criterion.name, "scenario": _scenario(criterion, results), "limit": criterion.limit}
    if reason := not_asked(criterion, results):
        return {**row, **_unjudged("not evaluated", reason)}
    worst: Callable[[Sequence[float]], float] = min if criterion.operator.startswith(">") else max
    seen = observe(criterion.subject, criterion.metric, results, worst)
    metric = metric_of(criterion.metric)
    if seen.value is None or metric is None:
        interrupted = (results.get("run") or {}).get("status") == "interrupted"
        why = f"the run was interrupted, and {seen.remark}" if interrupted else seen.remark
        return {**row, **_unjudged("no data", why)}
    value = _in_unit(seen.value, metric, criterion)
    passed = _holds(value, criterion)
    most = seen.value if seen.most is None else max(seen.value, seen.most)
    if _holds(_in_unit(most, metric, criterion), criterion) != passed:
        return {**row, **_unjudged("no data", seen.doubt)}
    lead = "" if passed else _lead(criterion, results)
    return {
        **row,
        "observed": with_unit(beside_limit(value, lambda figure: _holds(figure, criterion)), criterion.unit),
        "observed_value": value,
        "verdict": "pass" if passed else "fail",
        "why": "; ".join(filter(None, (seen.remark, lead))),
    }


def _unjudged(word: str, why: str) -> dict[str, Any]:
    return {"observed": word, "observed_value": None, "verdict": word, "why": why}


def _holds(value: float, criterion: Criterion) -> bool:
    """Tell whether a value in the unit of the limit keeps it."""
    return OPERATORS[criterion.operator](value, criterion.value)


def _lead(criterion: Criterion, results: Mapping[str, Any]) -> str:
    """Say where to look for the time that the target took, if its loop was free meanwhile."""
    subject = criterion.subject
    if criterion.metric not in _TIMES_OF_ANSWERS or is_baseline(subject.phase or ""):
        return ""
    entry: Mapping[str, Any] = next((m for m in results.get("metrics") or [] if is_of(m, subject, results)), {})
    if entry.get("scenario") not in ("chat", "run") or not is_free_target(entry.get("event_loops") or []):
        return ""
    return "the target's loop was free: look at what it waits for (pools, locks, threads, other services)"


def _scenario(criterion: Criterion, results: Mapping[str, Any]) -> str:
    """Return the scenario in whose results the row belongs."""
    subject = criterion.subject
    if not subject.is_scenario:
        return subject.scenario
    return next((m["scenario"] for m in results.get("metrics") or [] if is_of(m, subject, results)), subject.scenario)


def _in_unit(value: float, metric: Metric, criterion: Criterion) -> float:
    """Return a value in the unit of the limit, to 15 digits: 0.07 / 0.01 is not 7, and "= 7 %" must mean it."""
    return float(f"{value / DIMENSIONS[metric.dimension][criterion.unit]:.15g}")
