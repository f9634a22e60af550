"""The lines of code that held an event loop, each place once: those that count, and those that decide nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from asyncload_lib.report.entries import Entry, items
from asyncload_lib.report.numbers import NOTHING, count, counted, duration, listed
from asyncload_lib.report.table import Table, build_table
from asyncload_lib.report.text import clean, code_line
from asyncload_lib.results.figures import number
from asyncload_lib.verdict.stalls import by_place, joined

__all__ = ["CAUSES", "Culprit", "culprits_of", "other_stalls"]


class Cause(NamedTuple):
    """What a stall is charged to, in words."""

    short: str
    full: str


CAUSES = {
    "loop": Cause("a blocking call", "a call that blocked the loop"),
    "gil": Cause("the GIL", "another thread held the GIL"),
    "gc": Cause("garbage collection", "garbage collection"),
    "machine": Cause("a busy machine", "the machine gave no CPU time"),
}
"""Which of them count is told by `verdict.stalls.is_blamed`."""

_SHOWN = 5
"""So many places stand in the report with their lines; the rest is summed, and whole in the JSON."""

_EXCERPT = 7
"""So many lines of an excerpt are shown."""


class CodeLine(NamedTuple):
    """A line of an excerpt."""

    number: str
    text: str
    is_blocking: bool


@dataclass(frozen=True)
class Culprit:
    """A line of code that held a loop."""

    loop: str
    place: str
    call: str
    detail: str
    figures: str
    excerpt: tuple[CodeLine, ...]


def culprits_of(found: list[Entry]) -> tuple[tuple[Culprit, ...], str]:
    """Give the places that held a loop longest, and the sum of those that are not shown."""
    places = _places(found)
    return tuple(_culprit(place) for place in places[:_SHOWN]), _more(places)


def other_stalls(found: list[Entry]) -> Table | None:
    """Give the stalls that decide nothing, by their places."""
    places = _places(found)
    return build_table(
        "Stalls that do not count as blocking",
        [
            ("Loop", "text", lambda row: clean(row.get("loop"), 160)),
            ("Where", "code", _place),
            ("Call", "code", lambda row: clean(row.get("call"), 80)),
            ("Charged to", "text", lambda row: ", ".join(cause.short for cause in _causes(row))),
            ("Times", "number", lambda row: count(row.get("count"))),
            ("Longest", "number", lambda row: duration(row.get("longest_s"))),
            ("In all", "number", lambda row: duration(row.get("total_s"))),
        ],
        places[:_SHOWN],
        "These stalls do not make a loop count as blocked: Locust's hub runs no users, and garbage collection, a busy "
        "machine, or another thread holding the GIL in the generator is not a blocking call. They show how busy a "
        "process was." + (f" {more}" if (more := _more(places)) else ""),
    )


def _total_s(entry: Entry) -> float:
    return number(entry.get("total_s")) or 0.0


def _more(places: list[Entry]) -> str:
    """Sum up the places that are not shown."""
    rest = places[_SHOWN:]
    if not rest:
        return ""
    stalls = counted(sum(number(entry.get("count")) or 0.0 for entry in rest), "stall")
    longest = max(number(entry.get("longest_s")) or 0.0 for entry in rest)
    more = counted(len(rest), "more place")
    return f"{more}: {stalls}, longest {duration(longest)}, {duration(sum(map(_total_s, rest)))} in all."


def _places(found: list[Entry]) -> list[Entry]:
    """Give each place once, those that took most time first; what several came by with has all their names."""
    places = []
    for rows in by_place(found):
        names = {key: _names(row.get(key) for row in rows) for key in ("loop", "task")}
        causes = list(dict.fromkeys(str(row.get("cause")) for row in rows))
        places.append({**joined(rows), **names, "causes": causes})
    return sorted(places, key=_total_s, reverse=True)


def _names(names: Iterable[Any]) -> str:
    return listed(list(dict.fromkeys(clean(name, 40) for name in names if name)))


def _place(entry: Entry) -> str:
    line = number(entry.get("line"))
    return f"{clean(entry.get('file'), 160)}:{NOTHING if line is None else format(line, '.0f')}"


def _causes(place: Entry) -> list[Cause]:
    return [CAUSES.get(cause) or Cause(clean(cause), clean(cause)) for cause in place["causes"]]


def _culprit(place: Entry) -> Culprit:
    line = number(place.get("line"))
    times = number(place.get("count"))
    detail = [f"in {clean(place.get('function'), 80)}"]
    if place.get("task"):
        detail.append(f"task {place['task']}")
    detail += [cause.full for cause in _causes(place)]
    return Culprit(
        loop=clean(place.get("loop"), 160),
        place=_place(place),
        call=clean(place.get("call"), 120),
        detail=", ".join(detail),
        figures=f"{'once' if times == 1 else count(times) + ' times'}, longest {duration(place.get('longest_s'))}, "
        f"{duration(place.get('total_s'))} in all",
        excerpt=_excerpt(place.get("excerpt"), line),
    )


def _excerpt(excerpt: Any, blocking_line: float | None) -> tuple[CodeLine, ...]:
    rows = [row for row in items(excerpt)[:_EXCERPT] if isinstance(row, list | tuple) and len(row) >= 2]
    return tuple(_code_line(row[0], row[1], blocking_line) for row in rows)


def _code_line(at: Any, text: Any, blocking_line: float | None) -> CodeLine:
    found = number(at)
    shown = NOTHING if found is None else format(found, ".0f")
    return CodeLine(shown, code_line(text), found is not None and found == blocking_line)
