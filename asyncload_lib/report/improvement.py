"""Before and after of one scenario, always with what the ratio depends on: concurrency, one operation, the ceiling."""

from dataclasses import dataclass

from asyncload_lib.report.entries import Entry, mapping
from asyncload_lib.report.numbers import NOTHING, count, duration, ratio, short_ratio
from asyncload_lib.report.table import Fact, scenario_title
from asyncload_lib.report.text import clean
from asyncload_lib.results.figures import number
from asyncload_lib.verdict.comparison import PRACTICALLY_EQUAL

__all__ = ["Improvement", "prepare_improvement"]


@dataclass(frozen=True)
class Improvement:
    """Before and after of one scenario in words; the picture of all is drawn by `before_after`.

    `before_label`: what was measured before, where the explanation does not tell it.
    """

    name: str
    words: str
    tone: str
    before: str
    after: str
    before_label: str
    facts: tuple[Fact, ...]
    explanation: str


def prepare_improvement(metric: Entry) -> Improvement | None:
    """Prepare before and after of one scenario; None when no baseline was measured."""
    baseline = mapping(metric.get("baseline"))
    before, after = number(baseline.get("total_time")), number(metric.get("total_time"))
    if not baseline:
        return None
    words, tone = _improvement_words(number(baseline.get("speedup")))
    kind = clean(baseline.get("kind"), 120)
    ceiling, condition = short_ratio(baseline.get("ceiling")), "if an operation takes equally long before and after"
    explanation = clean(baseline["explanation"], 600) if baseline.get("explanation") else ""
    return Improvement(
        name=scenario_title(metric),
        words=words,
        tone=tone,
        before=duration(before),
        after=duration(after),
        before_label="" if kind.lower() in explanation.lower() else kind if kind != NOTHING else "blocking",
        facts=(
            Fact("C", count(metric.get("concurrency")), "operations at the same time"),
            Fact("D", duration(baseline.get("blocking_operation_time")), "one blocking operation"),
            Fact("Ceiling", "none" if ceiling == NOTHING else ceiling, condition),
        ),
        explanation=explanation,
    )


def _improvement_words(speedup: float | None) -> tuple[str, str]:
    if speedup is None or speedup <= 0:
        return "no data", "nodata"
    if 1 / PRACTICALLY_EQUAL <= speedup <= PRACTICALLY_EQUAL:
        return "no improvement", "fail"
    if speedup > 1:
        return f"{ratio(speedup)} faster", "pass"
    return f"{ratio(1 / speedup)} slower", "fail"
