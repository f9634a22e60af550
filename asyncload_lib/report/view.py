"""Results prepared for display: the one source of every word and digit in HTML, Markdown and on the console.

Templates only place what stands here; they neither compute nor format. Missing keys and values of the wrong kind give
NOTHING, so that a partial run still has a report.
"""

from dataclasses import dataclass

from asyncload_lib.report.entries import Entry, items, mapping, mappings
from asyncload_lib.report.improvement import Improvement, prepare_improvement
from asyncload_lib.report.numbers import NOTHING, count, counted, duration, listed, percent, rate
from asyncload_lib.report.one_sided import from_one_side, from_outside
from asyncload_lib.report.percentiles import explained, percentile
from asyncload_lib.report.run import (
    GeneratorSection,
    environment_table,
    generator_section,
    how_measured,
    run_facts,
    settings_table,
    worker_table,
)
from asyncload_lib.report.scenario import Scenario, prepare
from asyncload_lib.report.table import URGENCY, Fact, Table, Verdict, build_table, scenario_title, verdict
from asyncload_lib.report.text import clean, sentence_case
from asyncload_lib.results.figures import number

__all__ = ["WHY_LENGTH", "Report", "build"]


@dataclass(frozen=True)
class Report:
    """The whole report.

    `criteria_notes` say how far the criteria can be trusted; scenarios without a baseline, and so without an
    improvement, are named in `without_baseline`. `has_baselines`: what kind of run this is; a free one has none.
    """

    title: str
    verdict: Verdict
    sentence: str
    reasons: tuple[str, ...]
    facts: tuple[Fact, ...]
    criteria: Table | None
    criteria_notes: tuple[str, ...]
    not_evaluated: tuple[str, ...]
    improvements: tuple[Improvement, ...]
    improvement_table: Table | None
    has_baselines: bool
    without_baseline: tuple[str, ...]
    overview: Table | None
    scenarios: tuple[Scenario, ...]
    generator: GeneratorSection
    workers: Table | None
    environment: Table | None
    settings: Table | None
    measured: tuple[str, ...]


def build(results: Entry) -> Report:
    """Prepare a results dict (the JSON of a run) for the templates."""
    metrics = mappings(results.get("metrics"))
    criteria = sorted(mappings(results.get("criteria")), key=_urgency)
    run = mapping(results.get("run"))
    improvements = tuple(found for found in map(prepare_improvement, metrics) if found is not None)
    overall = verdict(mapping(results.get("summary")).get("verdict") or "incomplete")
    generator = generator_section(mapping(results.get("generator")))
    reasons = tuple(clean(reason, 300) for reason in items(run.get("status_reasons")))
    certified = overall.word in ("pass", "fail", "not evaluated")
    return Report(
        title=clean(results.get("test_suite") or "Load test", 120),
        verdict=overall,
        sentence=_judged(overall, criteria, metrics) if certified else _uncertified(criteria, run, reasons),
        reasons=reasons if certified or len(reasons) > _TOLD_ABOVE else (),
        facts=run_facts(results),
        criteria=_criteria_table(criteria, _headlines(metrics) if run.get("kind") != "free" else ""),
        criteria_notes=tuple(
            dict.fromkeys(filter(None, (from_one_side(mappings(m.get("event_loops"))) for m in metrics)))
        ),
        not_evaluated=tuple(_left_out(entry) for entry in criteria if entry.get("verdict") == "not evaluated"),
        improvements=improvements,
        improvement_table=_improvement_table(improvements),
        has_baselines=bool(improvements) or run.get("kind") != "free",
        without_baseline=tuple(scenario_title(m) for m in metrics if not mapping(m.get("baseline"))),
        overview=_overview_table(metrics),
        scenarios=tuple(prepare(metric, index) for index, metric in enumerate(metrics)),
        generator=generator,
        workers=worker_table(mappings(results.get("workers"))),
        environment=environment_table(run),
        settings=settings_table(mapping(run.get("settings"))),
        measured=how_measured(results),
    )


_TOLD_ABOVE = 2
"""So many reasons stand in the sentence itself; more of them get a list."""


def _uncertified(criteria: list[Entry], run: Entry, reasons: tuple[str, ...]) -> str:
    """Say why the run certifies nothing."""
    no_data = [clean(c.get("name"), 80) for c in criteria if c.get("verdict") == "no data"]
    why = "; ".join(reason.rstrip(".") for reason in reasons[:_TOLD_ABOVE])
    why = why or (f"no data for {listed(no_data)}" if no_data else "")
    why = why or f"the run ended {clean(run.get('status') or 'without a status', 40)}"
    return f"{sentence_case(why)}. Criteria are shown but not certified."


def _judged(overall: Verdict, criteria: list[Entry], metrics: list[Entry]) -> str:
    """Say what the criteria came to; without criteria, what failed."""
    named = {word: [clean(c.get("name"), 80) for c in criteria if c.get("verdict") == word] for word in URGENCY}
    missed, unknown, left_out = named["fail"], named["no data"], len(named["not evaluated"])
    asked = len(criteria) - left_out
    if missed or unknown:
        of_all = f"of {counted(asked, 'criterion', 'criteria')}"
        told = f"{len(missed)} {of_all} missed" if missed else f"{len(unknown)} {of_all} without data"
        told += f", {len(unknown)} without data" if missed and unknown else ""
        return f"{told}: {listed(missed + unknown)}."
    if not asked or overall.word == "fail":
        phases = [phase for metric in metrics for phase in mappings(metric.get("phases")) or [metric]]
        failed, total = (sum(number(row.get(f"{of}_requests")) or 0 for row in phases) for of in ("failed", "total"))
        blocked = any(metric.get("event_loop_blocked") is True for metric in metrics)
        told = f"No criterion was evaluated; {count(failed)} of {counted(total, 'request')} failed"
        return told + (" and an event loop was blocked." if blocked else ".")
    held = f"All {asked} criteria hold" if asked > 1 else "The one criterion holds"
    held += f"; {left_out} not evaluated." if left_out else "."
    outside = any(from_outside(mappings(metric.get("event_loops"))) for metric in metrics)
    return held + (" The target's event loop was seen from outside only." if outside else "")


WHY_LENGTH = 600
"""So long a reason is told whole: that of a loop that could not be judged is several sentences."""


def _urgency(criterion: Entry) -> tuple[int, bool]:
    """What did not hold comes first, a verdict nobody knows even before it.

    Of what was missed a blocked loop is the first: it makes all else late.
    """
    word = criterion.get("verdict")
    is_cause = word == "fail" and " max_stall " in str(criterion.get("name"))
    return URGENCY.index(word) if word in URGENCY else -1, not is_cause


def _criteria_table(criteria: list[Entry], note: str) -> Table | None:
    return build_table(
        "Criteria",
        [
            ("Verdict", "verdict", lambda row: verdict(row.get("verdict"))),
            ("Criterion", "text", _criterion_subject),
            ("Limit", "number", lambda row: clean(row.get("limit"), 40)),
            ("Observed", "number", _observed),
            ("Remark", "text", lambda row: clean(row.get("why"), WHY_LENGTH)),
        ],
        criteria,
        note,
    )


def _headlines(metrics: list[Entry]) -> str:
    """Say which phase of each scenario a criterion means that names none."""
    phases = [f"{clean(m.get('scenario'), 60)}.{clean(m.get('phase'), 60)}" for m in metrics if m.get("phase")]
    if not phases:
        return ""
    headlines = ", ".join(phases)
    return f"A scenario alone means its headline phase: {headlines}; max_stall covers all phases but the baseline."


def _observed(row: Entry) -> str:
    observed = clean(row.get("observed"), 60)
    return "no data" if observed == NOTHING and row.get("verdict") != "not evaluated" else observed


def _criterion_subject(row: Entry) -> str:
    """The criterion without its limit, which has a column of its own; criteria are one-line expressions."""
    name, limit = clean(row.get("name"), WHY_LENGTH), clean(row.get("limit"), 40)
    return name.removesuffix(limit).strip() or name


def _left_out(row: Entry) -> str:
    why = clean(row.get("why"), WHY_LENGTH)
    return clean(row.get("name"), WHY_LENGTH) + ("" if why == NOTHING else f": {why}")


def _improvement_table(improvements: tuple[Improvement, ...]) -> Table | None:
    return build_table(
        "Before and after",
        [
            ("Scenario", "text", lambda row: row.name),
            ("Before", "number", lambda row: row.before),
            ("After", "number", lambda row: row.after),
            ("Improvement", "number", lambda row: row.words),
            ("C", "number", lambda row: row.facts[0].value),
            ("D", "number", lambda row: row.facts[1].value),
            ("Ceiling", "number", lambda row: row.facts[2].value),
        ],
        improvements,
        "C: operations at the same time. D: time of one blocking operation. "
        "Ceiling: the largest possible improvement if an operation takes equally long before and after.",
    )


def _overview_table(metrics: list[Entry]) -> Table | None:
    table = build_table(
        "Scenarios",
        [
            ("Scenario", "text", scenario_title),
            ("Requests", "number", lambda row: count(row.get("total_requests"))),
            ("Errors", "number", lambda row: percent(row.get("error_rate"))),
            ("Total time", "number", lambda row: duration(row.get("total_time"))),
            ("Throughput", "number", lambda row: rate(row.get("requests_per_second"))),
            ("p50", "number", lambda row: percentile(row.get("latency"), "p50", row.get("p50_latency"))),
            ("p95", "number", lambda row: percentile(row.get("latency"), "p95", row.get("p95_latency"))),
            ("p99", "number", lambda row: percentile(row.get("latency"), "p99", row.get("p99_latency"))),
        ],
        metrics,
    )
    return explained(table)
