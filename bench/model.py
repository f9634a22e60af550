"""What a measurement is: tables of contenders over interleaved rounds, and goals that are met or missed."""

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Column", "Figures", "Goal", "Outcome", "Spread", "Table"]

Figures = dict[str, float]
"""One contender in one round: column name -> value."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, lowest and highest of the rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Return None when no round has a value; a NaN is no value."""
        known = [value for value in values if not math.isnan(value)]
        return cls(statistics.median(known), min(known), max(known), len(known)) if known else None


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a table. `unit` follows the name in the head; `digits` are significant ones."""

    name: str
    unit: str = ""
    digits: int = 3


@dataclass(frozen=True, slots=True)
class Goal:
    """`contender`'s `column`, or its ratio to `against`'s in the same round, is `op` `limit`.

    ">=" and "<=" are said of the median of the rounds, "==" of every one.
    """

    contender: str
    column: str
    op: str
    limit: float
    against: str | None = None
    moonshot: float | None = None

    def is_met(self, observed: Spread) -> bool:
        if self.op == "==":
            return observed.low == self.limit == observed.high
        return observed.median >= self.limit if self.op == ">=" else observed.median <= self.limit


@dataclass(frozen=True, slots=True)
class Outcome:
    """A goal and what was observed: `verdict` is "met", "missed" or "not measured"."""

    goal: Goal
    observed: Spread | None
    verdict: str


@dataclass
class Table:
    """Contenders side by side: `rounds[i][contender][column]`. Contenders are compared by the first column."""

    key: str
    title: str
    columns: list[Column]
    against: str | None = None
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rounds: list[dict[str, Figures]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def contenders(self) -> list[str]:
        """Every contender that was measured at least once, in the order of the first round."""
        return list(dict.fromkeys(name for one in self.rounds for name in one))

    def spread(self, contender: str, column: str) -> Spread | None:
        return Spread.of(one[contender][column] for one in self.rounds if column in one.get(contender, {}))

    def ratio(self, contender: str, against: str, column: str) -> Spread | None:
        """Return the ratio of two contenders, taken within each round, so that a slow minute slows both."""
        pairs = [
            (one[contender][column], one[against][column])
            for one in self.rounds
            if column in one.get(contender, {}) and one.get(against, {}).get(column)
        ]
        return Spread.of(ours / theirs for ours, theirs in pairs)

    def wording(self, goal: Goal) -> str:
        """Return the goal in words, with the unit of its column unless contenders are compared by that one anyway."""
        sign = {">=": "≥", "<=": "≤", "==": "="}[goal.op]
        moon = f" (moonshot {goal.moonshot:g})" if goal.moonshot is not None else ""
        column = next(column for column in self.columns if column.name == goal.column)
        if goal.against is None:
            return f"{goal.contender} {sign} {goal.limit:g} {column.unit}{moon}"
        what = "" if column is self.columns[0] else f", {column.unit}"
        return f"{goal.contender} {sign} {goal.limit:g}x {goal.against}{what}{moon}"

    def outcomes(self) -> Iterator[Outcome]:
        """Judge the goals. One is not measured if a contender of it failed in any round, whatever others showed."""
        for goal in self.goals:
            if {goal.contender, goal.against} & self.failures.keys():
                observed = None
            elif goal.against is None:
                observed = self.spread(goal.contender, goal.column)
            else:
                observed = self.ratio(goal.contender, goal.against, goal.column)
            if observed is None:
                yield Outcome(goal, None, "not measured")
            else:
                yield Outcome(goal, observed, "met" if goal.is_met(observed) else "missed")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON: everything that `from_json` needs, and the outcomes beside it for other readers."""
        plain = asdict(self)
        plain["rounds"] = [
            {name: {key: _finite(value) for key, value in figures.items()} for name, figures in one.items()}
            for one in self.rounds
        ]
        plain["outcomes"] = [
            {
                "goal": self.wording(outcome.goal),
                "observed": None if outcome.observed is None else asdict(outcome.observed),
                "verdict": outcome.verdict,
            }
            for outcome in self.outcomes()
        ]
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Table":
        """Return the table that `to_json` described."""
        rounds = [
            {
                name: {key: math.nan if value is None else value for key, value in figures.items()}
                for name, figures in one.items()
            }
            for one in plain["rounds"]
        ]
        return cls(
            key=plain["key"],
            title=plain["title"],
            columns=[Column(**column) for column in plain["columns"]],
            against=plain["against"],
            goals=[Goal(**goal) for goal in plain["goals"]],
            notes=plain["notes"],
            rounds=rounds,
            failures=plain["failures"],
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
