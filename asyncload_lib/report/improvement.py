"""Before and after of one scenario, always with what the ratio depends on: concurrency, one operation, the ceiling."""

from dataclasses import dataclass
from typing import Any

from asyncload_lib.report.table import Entry, Fact, mapping, scenario_title
from asyncload_lib.report.text import clean, sentence_case
from asyncload_lib.report.units import NOTHING, count, duration, ratio, short_ratio
from asyncload_lib.results.figures import number
from asyncload_lib.verdict.comparison import PRACTICALLY_EQUAL

__all__ = ["Improvement", "prepare_improvement"]


@dataclass(frozen=True)
class Improvement:
    """Before and after of one scenario in words; the picture of all is drawn by `before_after`."""

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
    ceiling = short_ratio(baseline.get("ceiling"))
    return Improvement(
        name=scenario_title(metric),
        words=words,
        tone=tone,
        before=duration(before),
        after=duration(after),
        before_label=kind if kind != NOTHING else "blocking",
        facts=(
            Fact("C", count(baseline.get("concurrency")), "operations at the same time"),
            Fact("D", duration(baseline.get("blocking_operation_time")), "one blocking operation"),
            Fact("Ceiling", "none" if ceiling == NOTHING else ceiling, "when an operation takes as long both ways"),
        ),
        explanation=_sentence(baseline.get("explanation")),
    )


def _sentence(text: Any) -> str:
    return sentence_case(clean(text, 600)) if text else ""


def _improvement_words(speedup: float | None) -> tuple[str, str]:
    if speedup is None or speedup <= 0:
        return "no data", "nodata"
    if 1 / PRACTICALLY_EQUAL <= speedup <= PRACTICALLY_EQUAL:
        return "no improvement", "fail"
    if speedup > 1:
        return f"{ratio(speedup)} faster", "pass"
    return f"{ratio(1 / speedup)} slower", "fail"
