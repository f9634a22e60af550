"""The results document: what a run measured and what came of it, in one versioned JSON (see `schema.json`)."""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from asyncload_lib.redaction import redacted
from asyncload_lib.results.figures import phase_figures, ratio
from asyncload_lib.results.files import SCHEMA_VERSION
from asyncload_lib.results.phase import PhaseResult

__all__ = [
    "BY_CONSTRUCTION",
    "BY_OVERLAP",
    "HUB",
    "NOT_INSIDE",
    "build_metric",
    "build_results",
    "deciding_loops",
    "heading",
    "improvement_problem",
    "is_of_generator",
    "is_of_target",
    "time_problem",
    "utc",
]

BY_CONSTRUCTION = "The ratio depends on both figures"
BY_OVERLAP = "Operations that wait rather than compute can overlap"
"""Each begins the last sentence of an explanation of an improvement: that of the most there is to gain."""
HUB = "generator hub"
"""Name of the loop of Locust's greenlets, in `event_loops`."""
NOT_INSIDE = "The loop was not watched from inside: "
"""Begins the last sentences in the note of an outside witness that stands alone."""

MOST_ERRORS = 0.01
"""Share of requests that may not have succeeded where times are compared: who fails or times out takes another time."""

TEST_SUITE = "Async Operations Load Testing"

Json = dict[str, Any]


def build_metric(
    scenario: str,
    test_name: str,
    headline: PhaseResult,
    phases: Sequence[PhaseResult],
    baseline: PhaseResult | None,
    *,
    concurrency: int,
    extra: Mapping[str, float | None] | None = None,
    extra_notes: Mapping[str, str] | None = None,
    event_loops: Sequence[Json] = (),
    vms: Sequence[Json] = (),
    start_skew_s: Mapping[str, float | None] | None = None,
    baseline_kind: str = "one blocking server",
    baseline_concurrency: int | None = None,
    blocking_operation_time_s: float | None = None,
    ceiling: float | None = None,
    explanation: str | None = None,
) -> Json:
    """Return one element of "metrics": the headline phase flat, then all phases, the baseline and what watched them.

    `phases` are all but the baseline, the headline among them; `concurrency` is the headline's, a phase's own is its
    users. `extra` holds the scenario's own figures that criteria can name, `extra_notes` what there is to say of them.
    `start_skew_s`: by phase. `explanation` says what the speedup depends on; without one it is derived from the
    concurrency and the time of one blocking operation.
    """
    figures, skews_s = phase_figures(headline, concurrency), start_skew_s or {}
    blocked = _any_blocked(event_loops)
    return {
        "scenario": scenario,
        "test_name": test_name,
        "phase": headline.short_name,
        **figures,
        "event_loop_blocked": blocked,
        "start_skew": skews_s.get(headline.name),
        "phases": [
            {
                "phase": phase.short_name,
                **phase_figures(phase, phase.users),
                "event_loop_blocked": None,
                "start_skew": skews_s.get(phase.name),
            }
            for phase in phases
        ],
        "baseline": None
        if baseline is None
        else _baseline(
            baseline,
            {"phase": headline.short_name, **figures},
            kind=baseline_kind,
            concurrency=concurrency if baseline_concurrency is None else baseline_concurrency,
            operation_time_s=blocking_operation_time_s,
            ceiling=ceiling,
            explanation=explanation,
        ),
        "vms": list(vms),
        "extra": dict(extra or {}),
        "extra_notes": dict(extra_notes or {}),
        "event_loops": list(event_loops),
        "criteria": [],
    }


def heading(test_name: str, concurrency: float | None) -> str:
    """Return the fixed name of a scenario, with the real number beside it where the name tells another."""
    named = re.match(r"(\d{1,9}) ", test_name)
    differs = named is not None and concurrency is not None and int(named[1]) != concurrency
    return f"{test_name} - run with {concurrency:.0f}" if differs else test_name


def build_results(
    run: Json,
    metrics: Sequence[Json],
    criteria: Sequence[Json],
    generator: Json,
    workers: Sequence[Json],
    *,
    verdict: str,
) -> Json:
    """Return the whole document, without secrets; each scenario gets its own criteria.

    `verdict`: what it comes to, see `verdict/`.
    """
    own = [{**m, "criteria": [c for c in criteria if c["scenario"] == m["scenario"]]} for m in metrics]
    document: Json = {
        "schema_version": SCHEMA_VERSION,
        "timestamp": run.get("started") or utc(time.time()),
        "test_suite": TEST_SUITE,
        "run": run,
        "metrics": own,
        "criteria": list(criteria),
        "generator": generator,
        "workers": list(workers),
        "summary": _summary(own, verdict),
    }
    whole: Json = redacted(document)
    return whole


def utc(moment_s: float) -> str:
    """Return a moment (s since 1970) as the document writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment_s))


def _summary(metrics: Sequence[Json], verdict: str) -> Json:
    p95s = [metric["p95_latency"] for metric in metrics if metric["p95_latency"] is not None]
    return {
        "total_tests": len(metrics),
        "all_passed": verdict == "pass",
        "avg_p95_latency": sum(p95s) / len(p95s) if p95s else None,
        "total_requests": sum(metric["total_requests"] for metric in metrics),
        "verdict": verdict,
    }


def _baseline(
    phase: PhaseResult,
    headline: Json,
    *,
    kind: str,
    concurrency: int,
    operation_time_s: float | None,
    ceiling: float | None,
    explanation: str | None,
) -> Json:
    figures = phase_figures(phase, concurrency)
    problem = improvement_problem(headline, figures)
    return {
        "phase": phase.short_name,
        **figures,
        "event_loop_blocked": None,
        "kind": kind,
        "blocking_operation_time": None if problem else operation_time_s,
        "ceiling": ceiling,
        "speedup": None if problem else ratio(figures["total_time"], headline["total_time"]),
        "explanation": f"No improvement can be stated: {problem}."
        if problem
        else explanation or _explain(kind, concurrency, operation_time_s),
    }


def improvement_problem(headline: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Return why the one cannot be said to be faster than the other, or ""."""
    return time_problem(baseline, "the baseline") or time_problem(headline, f"the phase {headline.get('phase')}")


def time_problem(figures: Mapping[str, Any], of: str) -> str:
    """Return why the times of a phase are not those of its work, or ""."""
    ok = figures.get("successful_requests") or 0
    lost = (figures.get("failed_requests") or 0) + (figures.get("abandoned_requests") or 0)
    if not ok:
        return f"no request of {of} succeeded"
    if lost > MOST_ERRORS * (ok + lost):
        return f"{lost} of {ok + lost} requests of {of} did not succeed, so its times cannot be compared"
    return ""


def _explain(kind: str, concurrency: int, operation_time_s: float | None) -> str:
    each_s, total_s = operation_time_s, None if operation_time_s is None else concurrency * operation_time_s
    times = "" if each_s is None else f", {each_s * 1000:.3g} ms each, {total_s:.3g} s in total"
    return (
        f"{kind}: {concurrency} operations run one after another{times}. "
        f"{BY_CONSTRUCTION} and approaches {concurrency} by construction."
    )


def is_of_target(loop: Mapping[str, Any]) -> bool:
    """Tell whether one of `event_loops` is the target's, from whichever side it was seen."""
    return str(loop.get("name")).startswith("target")


def is_of_generator(loop: Mapping[str, Any]) -> bool:
    """Tell whether one of `event_loops` is the generator's: that of its users, or Locust's hub."""
    return str(loop.get("name")).startswith("generator")


def deciding_loops(event_loops: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the loops that decide whether one was blocked.

    Locust's own hub runs no user: how late it is says whether the generator is valid, not whether a loop was blocked.
    Where a target was watched from inside, that witness decides: from outside, a queue looks like a blocked loop.
    """
    asyncio_loops = [loop for loop in event_loops if loop.get("name") != HUB]
    inside = [loop for loop in asyncio_loops if loop.get("witness") == "inside"]
    return inside if any(map(is_of_target, inside)) else asyncio_loops


def _any_blocked(event_loops: Sequence[Json]) -> bool | None:
    """Return whether any deciding loop was blocked; None if one of them, or none at all, gave no answer."""
    answers = [loop.get("blocked") for loop in deciding_loops(event_loops)]
    if True in answers:
        return True
    return False if answers and None not in answers else None
