"""The results document: what a run measured and what came of it, in one versioned JSON (see `schema.json`)."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asyncload_lib.redaction import redacted
from asyncload_lib.results.event_loops import any_blocked
from asyncload_lib.results.figures import phase_figures, ratio
from asyncload_lib.results.files import SCHEMA_VERSION
from asyncload_lib.results.phase import PhaseResult
from asyncload_lib.results.wording import figure_words, time_words

__all__ = [
    "Baseline",
    "build_metric",
    "build_results",
    "heading",
    "improvement_problem",
    "time_problem",
    "utc",
]

MOST_ERRORS = 0.01
"""Share of requests that may not have succeeded where times are compared: who fails or times out takes another time."""

TEST_SUITE = "Async Operations Load Testing"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The headline's operations as a blocking service does them: one after another."""

    phase: PhaseResult
    kind: str
    """What does them, in words."""


def build_metric(
    scenario: str,
    test_name: str,
    headline: PhaseResult,
    phases: Sequence[PhaseResult],
    baseline: Baseline | None,
    *,
    concurrency: int,
    extra: Mapping[str, float | None] | None = None,
    extra_notes: Mapping[str, str] | None = None,
    event_loops: Sequence[Json] = (),
    vms: Sequence[Json] = (),
    start_skew_s: Mapping[str, float | None] | None = None,
    watched_from_ns: int | None = None,
) -> Json:
    """Return one element of "metrics": the headline phase flat, then all phases, the baseline and what watched them.

    `phases` are all but the baseline, the headline among them; `concurrency` is the headline's, and so many operations
    the baseline does; a phase's own is its users. `extra` holds the scenario's own figures that criteria can name,
    `extra_notes` what there is to say of them. `start_skew_s`: by phase. `watched_from_ns`: when the watch of
    `event_loops` began, by the clock of the phases' `begun_ns`.
    """
    figures = {"phase": headline.short_name, **phase_figures(headline, concurrency)}
    skews_s = start_skew_s or {}
    return {
        "scenario": scenario,
        "test_name": test_name,
        **figures,
        "event_loop_blocked": any_blocked(event_loops),
        "start_skew": skews_s.get(headline.name),
        "phases": [_phase(phase, skews_s.get(phase.name), watched_from_ns) for phase in phases],
        "baseline": None if baseline is None else _baseline(baseline, figures),
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


def _phase(phase: PhaseResult, start_skew_s: float | None, watched_from_ns: int | None) -> Json:
    begun_s = None
    if phase.begun_ns is not None and watched_from_ns is not None:
        begun_s = (phase.begun_ns - watched_from_ns) / 1e9
    return {
        "phase": phase.short_name,
        **phase_figures(phase, phase.users),
        "event_loop_blocked": None,
        "start_skew": start_skew_s,
        "begun": begun_s,
    }


def _baseline(baseline: Baseline, headline: Json) -> Json:
    figures = phase_figures(baseline.phase, baseline.phase.users)
    problem = improvement_problem(headline, figures)
    operations: int = headline["concurrency"]
    operation_s = None if problem else ratio(figures["total_time"], operations)
    speedup = None if problem else ratio(figures["total_time"], headline["total_time"])
    told = ""
    if problem:
        told = f"No improvement can be stated: {problem}."
    elif operation_s is not None and speedup is not None:
        told = (
            f"Before, with {baseline.kind}, {operations} operations took {time_words(figures['total_time'])}, "
            f"on average {time_words(operation_s)} each.{_most_to_gain(operations, speedup)}"
        )
    return {
        "phase": baseline.phase.short_name,
        **figures,
        "event_loop_blocked": None,
        "kind": baseline.kind,
        "blocking_operation_time": operation_s,
        "ceiling": float(operations),
        "speedup": speedup,
        "explanation": told,
    }


def _most_to_gain(operations: int, speedup: float) -> str:
    """Say how large the improvement can become; nothing where there was none, more where it is larger."""
    if speedup < 1:
        return ""
    most = (
        " Operations that wait rather than compute can overlap: if all do, and each takes as long as before, the "
        f"improvement is {operations}x"
    )
    if speedup <= operations or figure_words(speedup) == figure_words(operations):
        return f"{most}."
    return f"{most}; the improvement measured is above the ceiling: single operations took longer in the blocking run."


def improvement_problem(headline: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """Return why the one cannot be said to be faster than the other, or ""."""
    return time_problem(headline, f"the phase {headline.get('phase')}") or time_problem(baseline, "the baseline")


def time_problem(figures: Mapping[str, Any], of: str) -> str:
    """Return why the times of a phase are not those of its work, or ""."""
    ok = figures.get("successful_requests") or 0
    lost = (figures.get("failed_requests") or 0) + (figures.get("abandoned_requests") or 0)
    if not ok:
        return f"no request of {of} succeeded"
    if lost > MOST_ERRORS * (ok + lost):
        return f"{lost} of {ok + lost} requests of {of} did not succeed, so its times cannot be compared"
    return ""
