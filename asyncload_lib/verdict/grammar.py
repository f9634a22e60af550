"""The grammar of criteria: one-line expressions, parsed and bound before a run.

    criterion = subject metric operator number [unit]            chat p95 < 2 s
    subject   = scenario [ "." phase ] [ "[" endpoint "]" ]      chat.sustained   chat[POST /api/chat]
              | "target" | "generator"                           target max_stall < 10 ms
    metric    = a name of `metrics.METRICS`                      error_rate
              | request metric "." statistic                     time_to_first_token.p95
    operator  = "<=" | "<" | ">=" | ">" | "="
    unit      = "us" | "ms" | "s" | "%" | "x"                    none for counts

A metric of a request is one of `metrics.REQUEST_METRICS`; `run`, the scenario of users of one's own, has any.
A scenario alone means its headline phase. `target` means every loop of the target in every scenario. An endpoint is
named as in the report, with its type in front where a name alone is not unique. Of several values the worst counts.
"""

import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from asyncload_lib.errors import ConfigurationError
from asyncload_lib.redaction import redact
from asyncload_lib.verdict.metrics import DIMENSIONS, Metric, Subject, metric_of, names
from asyncload_lib.verdict.stalls import hub_limit_s

__all__ = ["FREE_PHASES", "KNOWN", "OPERATORS", "Criterion", "bind", "parse", "problems", "with_unit"]

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt, "=": operator.eq,
}  # fmt: skip

FREE_PHASES = ("ramp", "run")
"""Phases of a run without scenarios: users are still being spawned, then all are there."""

KNOWN: Mapping[str, Collection[str]] = {
    "chat": ("warm_up", "few", "burst", "sustained", "baseline_warm_up", "baseline", *FREE_PHASES),
    "redis": ("burst", "baseline", *FREE_PHASES),
    "mixed": ("redis_alone", "files_alone", "mixed", "baseline", *FREE_PHASES),
    "vm_health": ("checks", "baseline", *FREE_PHASES),
    "files": FREE_PHASES,
    "run": FREE_PHASES,
}
"""Scenario -> its phases, in the suite and in a free run; `files` and `run` exist in free runs only."""

_SHAPE = re.compile(
    r"\s*(?P<scenario>[a-z]\w*)(?:\.(?P<phase>\w+))?(?:\[(?P<endpoint>.+)\])?"
    r"\s+(?P<metric>[a-z][\w.]*)"
    r"\s*(?P<operator><=|>=|<|>|=)"
    r"\s*(?P<value>\d+\.?\d*|\.\d+)\s*(?P<unit>us|ms|s|%|x|)\s*",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One expression; `value` is in `unit`, `is_default` tells those that nobody wrote."""

    subject: Subject
    metric: str
    operator: str
    value: float
    unit: str
    is_default: bool = False

    @property
    def limit(self) -> str:
        """The right-hand side, as every output writes it."""
        return f"{self.operator} {with_unit(f'{self.value:.15g}', self.unit)}"

    @property
    def sides(self) -> frozenset[tuple[Subject, str, str]]:
        """The figure that it judges, from below, from above or, where it must be met exactly, from both."""
        return frozenset(
            (self.subject, self.metric, side) for side in ("<>" if self.operator == "=" else self.operator[0])
        )

    @property
    def name(self) -> str:
        """The whole expression, as every output writes it."""
        return f"{self.subject} {self.metric} {self.limit}"


def parse(text: str, *, is_default: bool = False) -> Criterion:
    """Return the criterion that `text` writes; raises ConfigurationError when it has not the shape of one."""
    match = _SHAPE.fullmatch(text)
    value = float(match["value"]) if match else math.inf
    if match is None or not math.isfinite(value):
        raise ConfigurationError(
            f"{text!r} is not a criterion; allowed is SUBJECT METRIC OPERATOR NUMBER UNIT, such as "
            '"chat p95 < 2 s" (operators < <= > >= =, units us ms s % x)'
        )
    # Endpoints are named without secrets wherever they are named (`results.text`).
    endpoint = None if match["endpoint"] is None else redact(match["endpoint"])
    subject = Subject(match["scenario"], match["phase"], endpoint)
    return Criterion(subject, match["metric"], match["operator"], value, match["unit"], is_default)


def bind(criteria: Iterable[Criterion]) -> None:
    """Check that everything `criteria` name exists; raises ConfigurationError with all problems."""
    wrong = [problem for criterion in criteria for problem in _unbound(criterion)]
    if wrong:
        raise ConfigurationError(wrong)


def problems(texts: Iterable[str], loop_limit_s: float = 0.010) -> list[str]:
    """Return what is wrong with criteria as one source wrote them, for `settings.from_sources`.

    `loop_limit_s`: a shorter stall is not recorded, so that nothing can be said about one.
    """
    found: list[str] = []
    criteria: list[Criterion] = []
    for text in texts:
        try:
            bind([criterion := parse(text)])
        except ConfigurationError as error:
            found += error.problems
        else:
            criteria.append(criterion)
    return [*found, *_unrecorded(criteria, loop_limit_s), *_repeated(criteria)]


def _unrecorded(criteria: Iterable[Criterion], loop_limit_s: float) -> Iterator[str]:
    for criterion in criteria:
        recorded_s = hub_limit_s(loop_limit_s) if criterion.subject.level == "generator" else loop_limit_s
        is_of_hub = recorded_s > loop_limit_s
        limit_s = criterion.value * DIMENSIONS["time"].get(criterion.unit, math.inf)
        least = with_unit(f"{recorded_s * 1e3:.12g}", "ms")
        is_shorter = criterion.metric == "max_stall" and limit_s < recorded_s * (1 - 1e-9)
        if is_of_hub and (is_shorter or criterion.metric in ("stalls", "blocked_time")):
            yield (
                f"{criterion.name}: stalls of the generator's hub shorter than {least} are not recorded; "
                f"allowed is max_stall of {least} or more"
            )
        elif is_shorter:
            yield (
                f"{criterion.name}: stalls shorter than loop.limit ({least}) are not recorded; "
                f"allowed is {least} or more, or a shorter loop.limit"
            )


def _repeated(criteria: Iterable[Criterion]) -> Iterator[str]:
    """Name what judges the same figure from the same side; a limit below and one above make a range."""
    first: dict[tuple[Subject, str, str], Criterion] = {}
    for criterion in criteria:
        others = [first.setdefault(side, criterion) for side in sorted(criterion.sides, key=str)]
        other = next((other for other in others if other is not criterion), None)
        if other is not None:
            yield (
                f"{criterion.name} conflicts with {other.name}: only one upper and one lower limit are allowed on "
                f"{criterion.subject} {criterion.metric}"
            )


def with_unit(figure: str, unit: str) -> str:
    """Return a number with its unit, as every output writes it: `2 s`, `10x`."""
    return figure + (unit if unit in ("", "x") else f" {unit}")


def _unbound(criterion: Criterion) -> Iterable[str]:
    subject, metric = criterion.subject, metric_of(criterion.metric)
    if subject.is_scenario and subject.scenario not in KNOWN:
        yield f"{criterion.name}: unknown subject {subject.scenario}; there are {', '.join(KNOWN)}, target, generator"
        return
    phases = KNOWN.get(subject.scenario, ())
    if not subject.is_scenario and (subject.phase or subject.endpoint):
        yield f"{criterion.name}: {subject.scenario} has neither phases nor endpoints"
    elif subject.phase and subject.phase not in phases:
        yield f"{criterion.name}: {subject.scenario} has no phase {subject.phase}; there are {', '.join(phases)}"
    if metric is None or not metric.exists(subject):
        there_are = names(subject, criterion.metric.partition(".")[2])
        close = difflib.get_close_matches(criterion.metric, there_are, n=1)
        meant = f"; did you mean {close[0]}?" if close else ""
        yield f"{criterion.name}: {subject} has no metric {criterion.metric}{meant}; there are {', '.join(there_are)}"
    elif criterion.unit not in DIMENSIONS[metric.dimension]:
        yield f"{criterion.name}: the limit needs {_units(metric)}"


def _units(metric: Metric) -> str:
    units = [unit for unit in DIMENSIONS[metric.dimension] if unit]
    return f"a unit of {', '.join(units)}" if units else "no unit"
