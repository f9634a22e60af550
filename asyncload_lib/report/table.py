"""The one table that every format renders: headings, cells already written as text, and what kind each column is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from asyncload_lib.report.entries import Entry
from asyncload_lib.report.numbers import NOTHING, counted
from asyncload_lib.report.text import clean
from asyncload_lib.results.figures import number
from asyncload_lib.results.model import heading

__all__ = [
    "URGENCY",
    "VERDICTS",
    "Column",
    "Fact",
    "Table",
    "Verdict",
    "build_table",
    "scenario_title",
    "verdict",
]


@dataclass(frozen=True)
class Verdict:
    """A verdict as shape, word and colour class: never the colour alone."""

    word: str
    icon: str
    tone: str

    def __str__(self) -> str:
        return f"{self.icon} {self.word}"


VERDICTS = {
    "pass": Verdict("pass", "✓", "pass"),
    "fail": Verdict("fail", "✗", "fail"),
    "no data": Verdict("no data", "∅", "nodata"),
    "not evaluated": Verdict("not evaluated", "○", "none"),
    "incomplete": Verdict("incomplete", "◐", "nodata"),
    "invalid": Verdict("invalid", "⊘", "invalid"),
}


URGENCY = ("fail", "no data", "pass", "not evaluated")
"""The verdicts on criteria, the most urgent first."""


def verdict(word: Any) -> Verdict:
    """Give the verdict of that word; a word nobody knows is shown as it is, and never as a pass."""
    return VERDICTS.get(str(word)) or Verdict(clean(word, 40), "?", "nodata")


@dataclass(frozen=True)
class Column:
    """`kind`: text, code (a name from outside), number (aligned right) or verdict."""

    title: str
    kind: str = "text"


@dataclass(frozen=True)
class Fact:
    """A labelled value, with a note in small print and a tone (`pass`, `fail`, ...) where it carries a verdict."""

    label: str
    value: str
    note: str = ""
    tone: str = ""
    code: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells; a cell is text, or a Verdict in a verdict column."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""

    def brief(self, most: int = 40) -> "Table":
        """Give a table of at most `most` rows, which says how many it leaves out."""
        left_out = len(self.rows) - most
        if left_out <= 0:
            return self
        stand = counted(left_out, "more row is", "more rows are")
        note = f"{stand} in the HTML report. {self.note}".strip()
        return replace(self, rows=self.rows[:most], note=note)


def build_table(
    title: str, spec: Iterable[tuple[str, str, Callable[[Any], Any]]], entries: Iterable[Any], note: str = ""
) -> Table | None:
    """Build a table of one row per entry, or None without entries.

    `spec`: per column its heading, its kind and a function from the entry to the cell. A column that has nothing in
    every row is left out, except the first.
    """
    spec = list(spec)
    rows = [tuple(cell(entry) for _, _, cell in spec) for entry in entries]
    if not rows:
        return None
    kept = [place for place in range(len(spec)) if place == 0 or any(row[place] != NOTHING for row in rows)]
    columns = tuple(Column(spec[place][0], spec[place][1]) for place in kept)
    return Table(title, columns, tuple(tuple(row[place] for place in kept) for row in rows), note)


def scenario_title(metric: Entry) -> str:
    """Give the name of a scenario, with the real number beside it where the name tells another."""
    name = clean(metric.get("test_name") or metric.get("scenario"), 120)
    return heading(name, number(metric.get("concurrency")))
