"""What is known of a metric: its value in the results of a run, what it may be in truth, and what to say of it.

Nothing is ever 0 for "not there": that is None and a reason. Where no request has ended nothing is known of any of its
metrics.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from asyncload_lib.results.figures import PERCENTILES, number
from asyncload_lib.results.model import improvement_problem
from asyncload_lib.results.phase import is_baseline
from asyncload_lib.results.wording import time_words
from asyncload_lib.verdict.metrics import FREE, METRICS, SCENARIO, STATISTICS, Metric, Subject, metric_of, percentile_of
from asyncload_lib.verdict.stalls import (
    STALL_METRICS,
    Seen,
    is_about,
    is_watched,
    longest_unrecorded,
    most_of_queues,
    observe_loops,
)

__all__ = ["Observation", "is_beside_target", "is_of", "missing", "nothing_succeeded", "observe"]

Entry = Mapping[str, Any]

MOST_NAMED = 10
"""Endpoints that are named where one is asked for that is not there."""

NEAR_S = 0.005
"""A blocking operation that is over sooner has waited so little that the client's own computing shows."""

_OF_SUCCESS = frozenset({*STATISTICS, "total_time", "throughput", "speedup"})
"""Figures of requests that succeeded; of others there are none."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A value in base units and a remark; without a value, the remark says why there is none.

    `most`: what the value may be in truth, where the part of it that was not recorded is unknown (`doubt` says which).
    """

    value: float | None
    remark: str = ""
    most: float | None = None
    doubt: str = ""


def observe(
    subject: Subject, name: str, results: Entry, worst: Callable[[Sequence[float]], float] = max
) -> Observation:
    """Return the metric `name` of `subject` in the JSON of a run; of several values, the `worst`."""
    metric = metric_of(name)
    if metric is None or not metric.exists(subject):
        return Observation(None, f"{subject} has no metric {name}")
    scenarios = [entry for entry in results.get("metrics") or [] if is_of(entry, subject, results)]
    if name in STALL_METRICS:
        asked = [entry for entry in scenarios if is_about(entry.get("event_loops") or [], subject.scenario)] or [{}]
        seen = _worst_of([_of_loops(entry, name, subject, results) for entry in asked])
        is_untested = subject.level == "target" and all(is_beside_target(_phases(entry)) for entry in asked)
        return replace(seen, most=math.inf, doubt=_UNTESTED) if is_untested and seen.value is not None else seen
    if subject.level == "generator":
        processes = (results.get("generator") or {}).get("processes") or []
        if name == "send_delay":  # not measured where no user was released, as on a master; see `judge_generator`
            processes = [process for process in processes if metric.read(process) is not None] or processes
        return _all_of(processes, metric, worst, "a generator process")
    if not scenarios:
        return Observation(None, f"{subject.scenario} has no results")
    return _of_requests(scenarios[0], subject, name, metric, worst)


def is_of(entry: Entry, subject: Subject, results: Entry) -> bool:
    """Tell whether a scenario's results are what `subject` is about; of a free run all of them are "run"."""
    if subject.scenario == FREE and (results.get("run") or {}).get("kind") == "free":
        return True
    return not subject.is_scenario or subject.scenario == entry["scenario"]


def _of_loops(entry: Entry, name: str, subject: Subject, results: Entry) -> Observation:
    loops = entry.get("event_loops") or []
    seen = observe_loops(loops, name, subject.scenario)
    if seen.value is None:  # of some loop; the others show how bad it is at least
        least = observe_loops(list(filter(is_watched, loops)), name, subject.scenario)
        return Observation(*least, math.inf, seen.remark) if least.value else Observation(None, seen.remark)
    most, doubt = _unrecorded(loops, name, subject, results)
    if subject.is_scenario and not seen.remark and is_about(loops, "target") and is_beside_target(_phases(entry)):
        seen = seen._replace(remark=_OWN_LOOP_ALONE)
    # What the generator's own loops did is known, whatever came of its requests.
    if subject.level != "generator" and (in_vain := nothing_succeeded(entry)):
        most, doubt = math.inf, in_vain
    return Observation(seen.value, seen.remark, most, doubt)


_UNTESTED = "the target got no load, only check requests, so its loop was not tested"
_OWN_LOOP_ALONE = "of the users' own loop: the target got no load, only check requests"
_BESIDE_TARGET = ("REDIS set+get", "FILE write+read", "VM ")
"""How the requests begin that asyncload's own users send to Redis, files and machines."""


def is_beside_target(phases: Sequence[Entry]) -> bool:
    """Tell whether no request of a scenario, or of a free run whatever its name, went to the target."""
    rows = [row for phase in phases for row in phase.get("endpoints") or []]
    metrics = [row for phase in phases for row in phase.get("request_metrics") or []]
    # What never had an answer is no endpoint: it may have gone to the target.
    unanswered = {row.get("request") for row in metrics} - {row.get("name") for row in rows}
    beside = (f"{row.get('type')} {row.get('name')}".startswith(_BESIDE_TARGET) for row in rows)
    return bool(rows) and not unanswered and all(beside)


def _phases(entry: Entry) -> Sequence[Entry]:
    return entry.get("phases") or [entry]


def nothing_succeeded(entry: Entry) -> str:
    """Say so where requests of a scenario were made and none succeeded: the work that may block a loop was not done.

    A free run's loops are watched from the end of its ramp on.
    """
    phases = [phase for phase in _phases(entry) if not is_baseline(str(phase.get("phase")))]
    if any(phase.get("phase") == "run" for phase in phases):
        phases = [phase for phase in phases if phase.get("phase") != "ramp"]
    counts = [{key: number(phase.get(key)) or 0.0 for key in _OUTCOMES} for phase in phases]
    made = sum(max(each["started_requests"], each["total_requests"] + each["abandoned_requests"]) for each in counts)
    if not made or any(each["successful_requests"] for each in counts):
        return ""
    scenario = entry.get("scenario")
    return f"none of {made:.0f} requests of {scenario} succeeded: the loop never did their work, so it was not tested"


_OUTCOMES = ("started_requests", "total_requests", "successful_requests", "abandoned_requests")


def _worst_of(seen: Sequence[Observation]) -> Observation:
    """Return the worst over scenarios, each with its own witnesses: one without a value leaves the whole unknown."""
    unknown = next((each for each in seen if each.value is None), None)
    if unknown is not None:
        return unknown
    worst = max(seen, key=lambda each: each.value or 0.0)
    most = max(seen, key=lambda each: -math.inf if each.most is None else each.most)
    return replace(worst, most=most.most, doubt=most.doubt)


def _unrecorded(loops: Sequence[Entry], name: str, subject: Subject, results: Entry) -> Seen:
    """Return what a figure about stalls may be beyond what is proven, and why; None where it can be no more."""
    queued = most_of_queues(loops, name, subject.scenario)
    longest_s = longest_unrecorded(loops, subject.scenario)
    wanted_s = number(((results.get("run") or {}).get("settings") or {}).get("loop.limit"))
    if longest_s is None or name == "lag_p99" or (name != "max_stall" and (not wanted_s or longest_s <= wanted_s)):
        return queued
    # Whatever is recorded is at least that long, so what is not recorded is a little shorter.
    unrecorded = longest_s * (1 - 1e-9) if name == "max_stall" else math.inf
    if queued.value is not None and queued.value > unrecorded:
        return queued
    return Seen(unrecorded, f"stalls under {time_words(longest_s)} are not recorded")


def _of_requests(
    entry: Entry, subject: Subject, name: str, metric: Metric, worst: Callable[[Sequence[float]], float]
) -> Observation:
    phase = _phase(entry, subject.phase)
    if phase is None:
        return Observation(None, f"{subject.scenario} has no phase {subject.phase}")
    if name not in METRICS:
        return _of_request_metric(phase, subject.endpoint, name, metric, worst)
    if subject.endpoint is None:
        return _of_phase(phase, name, metric, _where(phase))
    named = [row for row in phase.get("endpoints") or [] if _is_named(row, subject.endpoint)]
    if len(named) != 1:
        return Observation(None, f"{len(named)} endpoints are named {subject.endpoint}{_named(phase)}")
    return _of_phase(named[0], name, metric, _where(phase))


def _of_request_metric(
    phase: Entry, endpoint: str | None, name: str, metric: Metric, worst: Callable[[Sequence[float]], float]
) -> Observation:
    """Return a statistic of what users keep about their requests; where several requests have it, the worst of them."""
    request_metric, _, statistic = name.partition(".")
    named = [row for row in phase.get("endpoints") or [] if endpoint is not None and _is_named(row, endpoint)]
    metrics = phase.get("request_metrics") or []
    requests = {row.get("name") for row in named} or {row.get("request") for row in metrics} & {endpoint}
    if endpoint is not None and not requests:
        return Observation(None, f"0 endpoints are named {endpoint}{_named(phase)}")
    if endpoint not in (None, *requests) and (others := _others(phase, named[0])):
        return Observation(None, f"{request_metric} is kept by name, and {others} has the same as {endpoint}")
    measured = [row for row in metrics if row.get("name") == request_metric]
    rows = [row for row in measured if row.get("count") and (endpoint is None or row.get("request") in requests)]
    if statistic == "count":
        if not rows and not phase.get("total_requests"):
            return Observation(None, "no request has ended")
        return Observation(float(sum(row["count"] for row in rows)))
    seen = _all_of(rows, metric, worst, request_metric)
    if len(rows) == 1 and not seen.remark:
        seen = replace(seen, remark=_remark(rows[0], statistic))
    seen = _invalid_values(seen, rows, statistic)
    # Requests that were cut off have no value of it, whatever theirs would have been.
    lacking = missing({**(named or [phase])[0], "unmeasured_requests": 0}, statistic)
    return seen if seen.value is None or lacking.value is None else replace(seen, most=math.inf, doubt=lacking.remark)


def _of_phase(row: Entry, name: str, metric: Metric, where: str) -> Observation:
    """Return a figure of a phase, or of one of its endpoints; `where`: the phase, for the remark that it has none."""
    if metric.levels != SCENARIO and not row.get("total_requests"):
        return Observation(None, f"no request{where} has ended")
    if name in _OF_SUCCESS and not row.get("successful_requests"):
        return Observation(None, f"no request{where} succeeded")
    if name == "speedup" and row.get("baseline") and (problem := improvement_problem(row, row["baseline"])):
        return Observation(None, problem)
    value, unmeasured = number(metric.read(row)), _unmeasured(row) if name in STATISTICS else ""
    if value is None:
        return Observation(None, (row.get("extra_notes") or {}).get(name) or unmeasured or f"{name} was not measured")
    return Observation(value, "; ".join(filter(None, (_remark(row, name), unmeasured))), *missing(row, name))


def _where(phase: Entry) -> str:
    return f" of the phase {phase['phase']}" if phase.get("phase") else ""


def missing(row: Entry, name: str) -> Seen:
    """Return what a figure may be in truth where latencies are missing, and why; None where they change nothing.

    Requests that were cut off younger than others that succeeded are the end of any run; older ones may never have
    ended. Each of them stands for all that its user would have asked meanwhile. Those that succeeded without a valid
    latency may have taken any time.
    """
    overdue, ok = number(row.get("overdue_requests")) or 0.0, number(row.get("successful_requests")) or 0.0
    unmeasured, omitted = number(row.get("unmeasured_requests")) or 0.0, number(row.get("omitted_share")) or 0.0
    age_s = number(row.get("abandoned_max_age"))
    oldest = "" if age_s is None else f", the oldest for {time_words(age_s)}"
    requests = f"{overdue:.0f} request{' was' if overdue == 1 else 's were'}"
    unanswered = f"{requests} still unanswered at the end and had waited longer than any successful one took{oldest}"
    if name == "error_rate" and overdue:
        failed, total = number(row.get("failed_requests")) or 0.0, number(row.get("total_requests")) or 0.0
        return Seen((failed + overdue) / (total + overdue), unanswered)
    if name == "failed_requests" and overdue:
        return Seen((number(row.get("failed_requests")) or 0.0) + overdue, unanswered)
    if _is_hidden(name, omitted, 1.0):
        unanswered += f"; {omitted * 100:.3g} % of all requests were not made because users waited for these"
    elif not _is_hidden(name, overdue + unmeasured, ok + overdue):
        return Seen(None, "")
    return Seen(math.inf, "; ".join(filter(None, (unanswered if overdue else "", _unmeasured(row)))))


def _is_hidden(name: str, missing: float, total: float) -> bool:
    """Tell whether a statistic of `total` values may be one of those `missing`."""
    quantile = 1.0 if name == "max" else PERCENTILES.get(name)
    return bool(missing) and (name == "avg" or (quantile is not None and missing > (1 - quantile) * total))


def _unmeasured(row: Entry) -> str:
    """Say how many requests succeeded without a valid latency."""
    unmeasured, ok = number(row.get("unmeasured_requests")), number(row.get("successful_requests")) or 0.0
    return f"{unmeasured:.0f} of {ok:.0f} successful requests had no valid latency" if unmeasured else ""


def _invalid_values(seen: Observation, rows: Sequence[Entry], statistic: str) -> Observation:
    """Return what was seen of a metric of a request, in doubt where a value that was no valid time may be the one."""
    lacking = [row for row in rows if number(row.get("invalid"))]
    told = "; ".join(f"{row['invalid']} of {row['count']} values of {row.get('name')} are not valid" for row in lacking)
    remark = "; ".join(filter(None, (seen.remark, told)))
    is_hidden = any(_is_hidden(statistic, float(row["invalid"]), float(row["count"])) for row in lacking)
    return replace(seen, remark=remark, most=math.inf, doubt=told) if is_hidden else replace(seen, remark=remark)


def _phase(entry: Entry, name: str | None) -> Entry | None:
    if name in (None, entry.get("phase")):
        return entry
    if name == "baseline":
        return entry.get("baseline")
    return next((phase for phase in entry.get("phases") or [] if phase.get("phase") == name), None)


def _named(phase: Entry) -> str:
    there_are = [f"{row.get('type')} {row.get('name')}" for row in phase.get("endpoints") or []]
    more = f" and {len(there_are) - MOST_NAMED} more" if len(there_are) > MOST_NAMED else ""
    return f"; there are {', '.join(there_are[:MOST_NAMED])}{more}" if there_are else ""


def _others(phase: Entry, named: Entry) -> str:
    """Name an endpoint that differs from `named` in its type alone; "" if there is none."""
    same = [row for row in phase.get("endpoints") or [] if row is not named and row.get("name") == named.get("name")]
    return f"{same[0].get('type')} {same[0].get('name')}" if same else ""


def _is_named(row: Entry, endpoint: str) -> bool:
    return endpoint in (row.get("name"), f"{row.get('type')} {row.get('name')}")


def _all_of(rows: Sequence[Entry], metric: Metric, worst: Callable[[Sequence[float]], float], what: str) -> Observation:
    """Return the worst over `rows`; one row without a value leaves the whole unknown."""
    values = [number(metric.read(row)) for row in rows]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Observation(None, f"{what} was not measured")
    return Observation(worst(known), f"the worst of {len(known)}" if len(known) > 1 else "")


def _remark(phase: Entry, name: str) -> str:
    """Return what there is to say of a figure: its interval or that it has none, or its most frequent error."""
    if name == "error_rate" and (errors := phase.get("errors")):
        worst = max(errors, key=lambda error: error["count"])
        return f"{worst['count']} of {phase['failed_requests']} failures: {worst['error']}"
    if name == "speedup":
        return _of_speedup(phase)
    if name == "throughput" and phase.get("failed_requests"):
        return f"of {phase['total_requests']} requests {phase['failed_requests']} failed"
    detailed = percentile_of(phase, name)
    low, high = detailed.get("ci_low"), detailed.get("ci_high")
    if low is not None and high is not None:
        return f"95 % interval {time_words(low)} to {time_words(high)}"
    return str(detailed.get("note") or (phase.get("extra_notes") or {}).get(name) or "")


def _of_speedup(entry: Entry) -> str:
    """Return what the improvement is made of: both times, and whether there was much to wait for."""
    baseline = entry.get("baseline") or {}
    before_s, after_s = number(baseline.get("total_time")), number(entry.get("total_time"))
    operation_s = number(baseline.get("blocking_operation_time"))
    if before_s is None or after_s is None or operation_s is None:
        return ""
    told = f"{time_words(before_s)} before, {time_words(after_s)} now"
    told += f"; one blocking operation takes {time_words(operation_s)}"
    near = "; so little of that is waiting that computation, including the clients' own, limits the ratio: "
    near += "set your own limit in criteria"
    return told + (near if operation_s < NEAR_S else "")
