"""The default criteria, and which of them a run was not asked for."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from asyncload_lib.verdict.grammar import Criterion, parse
from asyncload_lib.verdict.metrics import FREE

__all__ = ["DEFAULTS", "FREE_DEFAULTS", "JUDGED_SCENARIOS", "not_asked", "out_of_place", "selected"]

DEFAULTS: Mapping[str, Sequence[str]] = {
    "chat": (
        "chat total_time < 5 s", "chat p95 < 2 s", "chat error_rate < 1 %", "chat.sustained p95 < 2 s",
        "chat.sustained error_rate < 1 %", "chat degradation <= 1.5x", "chat speedup >= 10x",
    ),
    "redis": ("redis total_time < 2 s", "redis p95 < 2 s", "redis error_rate < 1 %", "redis speedup >= 10x"),
    "mixed": (
        "mixed total_time < 5 s", "mixed error_rate < 1 %", "mixed redis_interference <= 3x",
        "mixed file_interference <= 3x",
    ),
    "vm_health": ("vm_health reachable >= 50 %", "vm_health start_skew <= 50 ms", "vm_health beyond_slowest <= 50 ms"),
}  # fmt: skip
"""What a scenario of the suite must meet; `max_stall` within the limit of the loops comes to each."""

FREE_DEFAULTS: Mapping[str, Sequence[str]] = {
    "vm_health": ("vm_health error_rate <= 50 %",),
    "files": ("files p95 < 2 s", "files error_rate < 1 %"),
    "run": ("run p95 < 2 s", "run error_rate < 1 %"),
}
"""What a free run must meet besides those of DEFAULTS that it can show."""

JUDGED_SCENARIOS = frozenset({*DEFAULTS, *FREE_DEFAULTS})
"""What `scenario` in the results can be."""

FREE_METRICS = frozenset({"p95", "error_rate", "max_stall"})


def selected(
    texts: Iterable[str],
    scenarios: Iterable[str],
    kind: str,
    loop_limit_s: float,
    *,
    defaults: bool,
) -> list[Criterion]:
    """Return the criteria of a run: with `defaults` the default ones, those written in place of what they replace.

    All others that were written come last.
    """
    scenarios = list(scenarios)
    judged = {written: _meant(written, scenarios, kind).sides for written in map(parse, texts)}
    rows: dict[Criterion, None] = {}
    for default in _standard(scenarios, kind, loop_limit_s) if defaults else ():
        instead = [written for written, sides in judged.items() if sides & default.sides]
        rows |= dict.fromkeys(instead or [default])
    return list(rows | dict.fromkeys(judged))


def _standard(scenarios: Iterable[str], kind: str, loop_limit_s: float) -> Iterator[Criterion]:
    for scenario in scenarios:
        texts = [*DEFAULTS.get(scenario, ()), *(FREE_DEFAULTS.get(scenario, ()) if kind == "free" else ())]
        for text in (*texts, f"{scenario} max_stall < {loop_limit_s * 1e3:.12g} ms"):
            yield parse(text, is_default=True)


def _meant(criterion: Criterion, scenarios: Sequence[str], kind: str) -> Criterion:
    """Return what a criterion is about: in a free run "run" is the scenario of the users, whichever that is."""
    if kind != "free" or criterion.subject.scenario != FREE or len(scenarios) != 1:
        return criterion
    return replace(criterion, subject=replace(criterion.subject, scenario=scenarios[0]))


def out_of_place(texts: Iterable[str], scenarios: Collection[str]) -> list[str]:
    """Return what is wrong with criteria that somebody wrote for this very run of `scenarios`: it cannot meet them."""
    allowed = ", ".join([*scenarios, "target", "generator"])
    written = (parse(text) for text in texts)
    return [
        f"the criterion {criterion.name!r} is about {criterion.subject.scenario}, which is not part of this run; "
        f"allowed is {allowed}"
        for criterion in written
        if criterion.subject.is_scenario and criterion.subject.scenario not in scenarios
    ]


def not_asked(criterion: Criterion, results: Mapping[str, Any]) -> str:
    """Return why nobody asked for this in the run at hand, or ""; what a user wrote for it is always asked for."""
    run = results.get("run") or {}
    settings, subject = run.get("settings") or {}, criterion.subject
    entries = {entry["scenario"]: entry for entry in results.get("metrics") or []}
    if subject.is_scenario and subject.scenario not in entries:
        chosen = [*entries, FREE] if run.get("kind") == "free" else settings.get("scenarios")
        if chosen and subject.scenario not in chosen:
            return f"{subject.scenario} is not part of this run"
    if not criterion.is_default:
        return ""
    if run.get("kind") == "free" and (subject.phase or criterion.metric not in FREE_METRICS):
        return "only the suite measures this"
    if settings.get("chat.sustain") == 0 and (subject.phase == "sustained" or criterion.metric == "degradation"):
        return "the sustained phase is switched off (chat.sustain)"
    if criterion.metric == "speedup" and not (entries.get(subject.scenario) or {}).get("baseline"):
        if settings.get("baseline.enabled") is False:
            return "the baseline is switched off (baseline.enabled)"
        embedded = (run.get("target") or {}).get("embedded")
        if subject.scenario == "chat" and embedded is False and not settings.get("baseline.host"):
            return "no blocking service is configured (baseline.host)"
    return ""
