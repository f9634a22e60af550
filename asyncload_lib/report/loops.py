"""What was seen of the event loops, prepared for display: witnesses side by side, stalls by cause, culprits."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from asyncload_lib.report.numbers import NOTHING, count, counted, duration, listed, short_duration
from asyncload_lib.report.table import Column, Entry, Table, Verdict, build_table, mapping, mappings
from asyncload_lib.report.text import clean, code_line
from asyncload_lib.results.event_loops import NOT_INSIDE, deciding_loops, is_of_target
from asyncload_lib.results.figures import number
from asyncload_lib.verdict.stalls import by_place, charged, is_blamed, is_watched, joined

__all__ = ["CAUSES", "Culprit", "LoopSection", "blocked_verdict", "from_one_side"]
__all__ += ["from_outside", "in_order", "loop_section"]

CAUSES = {
    "loop": ("a blocking call", "a call that blocked the loop"),
    "gil": ("the GIL", "another thread held the GIL"),
    "gc": ("garbage collection", "garbage collection"),
    "machine": ("a busy machine", "the machine gave no CPU time"),
}
"""What a stall is charged to, in short and in full; which of them count is told by `verdict.stalls.is_blamed`."""

_NAMED = 3
"""So many tasks or threads that came by one place are named."""

_SHOWN = 5
"""So many places stand in the report with their lines; the rest is summed, and whole in the JSON."""


@dataclass(frozen=True)
class Culprit:
    """A line of code that held a loop; `excerpt`: (line number, text, is it the blocking line)."""

    loop: str
    place: str
    call: str
    detail: str
    figures: str
    excerpt: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class LoopSection:
    """One column per loop and witness, then the lines that blocked, then stalls that decide nothing."""

    table: Table | None
    culprits: tuple[Culprit, ...]
    more: str
    others: Table | None
    notes: tuple[str, ...]


def blocked_verdict(blocked: Any, *, is_watched: bool = False) -> Verdict:
    """Say whether a loop was blocked; not knowing is not the same as not blocked, nor as nobody having looked."""
    if blocked is True:
        return Verdict("blocked", "✗", "fail")
    if blocked is False:
        return Verdict("not blocked", "✓", "pass")
    return Verdict("cannot tell" if is_watched else "not watched", "○", "none")


def _loop_verdict(loop: Entry, deciding: list[Entry]) -> Verdict:
    """Say whether a loop was blocked; of one that does not decide, only that it stands here for comparison."""
    if any(loop is other for other in deciding) or loop.get("blocked") is None:
        return blocked_verdict(loop.get("blocked"), is_watched=bool(number(loop.get("watched_s"))))
    return Verdict("not decisive", "○", "none")


def in_order(loops: list[Entry]) -> list[Entry]:
    """Put the target's witnesses first, in their own order: they are what a report is read for."""
    return sorted(loops, key=lambda loop: not is_of_target(loop))


def loop_section(loops: list[Entry]) -> LoopSection:
    """Prepare the `event_loops` of a scenario."""
    deciding = deciding_loops(loops)
    blamed: list[Entry] = []
    others: list[Entry] = []
    for loop in loops:
        decides = any(loop is other for other in deciding)
        for entry in mappings(loop.get("culprits")):
            found = {**entry, "loop": loop.get("name")}
            (blamed if decides and is_blamed(loop, entry) else others).append(found)
    places, other_places = _places(blamed), _places(others)
    culprits = [_culprit(place) for place in places[:_SHOWN]]
    notes = [f"{clean(loop.get('name'))}: {clean(loop.get('note'), NOTE_LENGTH)}" for loop in loops if loop.get("note")]
    more, table = _more(places), _other_stalls(other_places)
    return LoopSection(_witness_table(loops), tuple(culprits), more, table, tuple(notes))


def _places(found: list[Entry]) -> list[Entry]:
    """Give each place once, those that took most time first; what several came by with has all their names."""
    places = []
    for rows in by_place(found):
        names = {key: _names(row.get(key) for row in rows) for key in ("loop", "task")}
        causes = list(dict.fromkeys(str(row.get("cause")) for row in rows))
        places.append({**joined(rows), **names, "causes": causes})
    return sorted(places, key=_total_s, reverse=True)


def _names(names: Iterable[Any]) -> str:
    return listed(list(dict.fromkeys(clean(name, 40) for name in names if name)), _NAMED)


NOTE_LENGTH = 800
"""So long a note is told whole: a witness may have several sentences to say."""

_MENDS = {
    "no probe token is known": " Set loop.probe_token to the token of the LoopProbe in the target.",
    "answered 401": " The token is wrong: set loop.probe_token to that of the LoopProbe in the target.",
    "answered 404": " No LoopProbe is there: mount one in the target, or set loop.probe_path to where it is.",
    "not a probe's": " No LoopProbe is there: mount one in the target, or set loop.probe_path to where it is.",
}


_NO_PROOF = "(loop.witness_path)"
"""Ends what an outside witness says whose check requests were refused."""


def from_one_side(loops: list[Entry]) -> str:
    """Say why the target was judged from one side only, and what to mend; "" where it was not."""
    return from_outside(loops) or _from_inside(loops)


def _from_inside(loops: list[Entry]) -> str:
    notes = [str(loop.get("note")) for loop in loops if loop.get("witness") == "outside" and not is_watched(loop)]
    note = next((note for note in notes if _NO_PROOF in note), "")
    return f"The target was not seen from outside: {clean(note, NOTE_LENGTH)}" if note else ""


def from_outside(loops: list[Entry]) -> str:
    """Say why the target was judged from outside only, and what to mend; "" where it was not."""
    deciding = [str(loop.get("note")) for loop in deciding_loops(loops) if is_watched(loop)]
    why = next((note.partition(NOT_INSIDE)[2] for note in deciding if NOT_INSIDE in note), "")
    if not why:
        return ""
    mend = next((mend for words, mend in _MENDS.items() if words in why), "")
    return (
        f"The target's event loop was judged from outside only, because {clean(why.rstrip('.'))}: it misses "
        f"stalls between two check requests, and stalls in workers that none of them reached.{mend}"
    )


def _other_stalls(places: list[Entry]) -> Table | None:
    return build_table(
        "Stalls that do not count as blocking",
        [
            ("Loop", "text", lambda row: clean(row.get("loop") or None, 160)),
            ("Where", "code", lambda row: _place(row)),
            ("Call", "code", lambda row: clean(row.get("call") or None, 80)),
            ("Charged to", "text", lambda row: _causes(row, 0)),
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


def _witness_table(loops: list[Entry]) -> Table | None:
    """One column per witness, so that inside and outside stand side by side."""
    if not loops:
        return None
    rows: list[tuple[str, list[Any]]] = [
        ("Verdict", [_loop_verdict(loop, deciding_loops(loops)) for loop in loops]),
        ("Seen from", [clean(loop.get("witness")) for loop in loops]),
        ("Process", [clean(loop.get("process"), 60) for loop in loops]),
        ("Longest stall charged to the code", [_of_code(loop, "max_stall", duration) for loop in loops]),
        ("Stall proven from outside", [_proven(loop) for loop in loops]),
        ("Stall limit", [short_duration(loop.get("limit_s")) for loop in loops]),
        ("Stalls charged to the code", [_of_code(loop, "stalls", count) for loop in loops]),
        ("Time stalled by the code", [_of_code(loop, "blocked_time", duration) for loop in loops]),
        *(
            (label, [words(loop.get(key)) if _is_late(loop) else NOTHING for loop in loops])
            for label, key, words in _LATE_ROWS
        ),
        ("Lag p50", [duration(mapping(loop.get("lag")).get("p50")) for loop in loops]),
        ("Lag p99", [duration(mapping(loop.get("lag")).get("p99")) for loop in loops]),
        ("Largest lag", [duration(mapping(loop.get("lag")).get("max")) for loop in loops]),
        ("Watched for", [duration(loop.get("watched_s")) for loop in loops]),
        ("Heartbeat every", [short_duration(loop.get("period_s")) for loop in loops]),
    ]
    for cause, (label, _) in CAUSES.items():
        cells = [_by_cause(loop, cause) for loop in loops]
        if any(cell not in ("0", NOTHING) for cell in cells):
            rows.append((f"Stalls by {label}", cells))
    shown = tuple((label, *cells) for label, cells in rows if any(cell != NOTHING for cell in cells))
    columns = (Column(""), *(Column(clean(loop.get("name"), 40), "number") for loop in loops))
    return Table("Event loops", columns, shown)


_LATE_ROWS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("Longest delay of an answer", "max_stall", duration),
    ("Late answers", "stalls", count),
    ("Sum of delays", "blocked_s", duration),
)


def _of_code(loop: Entry, metric: str, words: Callable[[Any], str]) -> str:
    """Write what counts of a loop's stalls; the others stand by their cause below."""
    if _is_late(loop):
        return NOTHING
    causes = {cause: mapping(found) for cause, found in mapping(loop.get("by_cause")).items()}
    value = charged({**loop, "by_cause": causes, "culprits": mappings(loop.get("culprits"))}, metric)
    return "none" if value == 0 and metric == "max_stall" else words(value)


def _is_late(loop: Entry) -> bool:
    """Tell whether what was seen are late answers, of which only a part is proven to be stalls."""
    return loop.get("witness") == "outside" and "proven_stall" in loop and bool(number(loop.get("watched_s")))


def _proven(loop: Entry) -> str:
    """Write how much of the late answers must have been a stall, whatever caused it."""
    if not _is_late(loop) or loop.get("blocked") is None:
        return NOTHING
    return f"at least {duration(loop.get('proven_stall'))}" if loop.get("blocked") else "none seen"


def _by_cause(loop: Entry, cause: str) -> str:
    found = mapping(mapping(loop.get("by_cause")).get(cause))
    stalls = number(found.get("stalls"))
    if stalls is None:
        return NOTHING
    if stalls == 0:
        return "0"
    return f"{count(stalls)}, longest {duration(found.get('max_stall'))}"


def _place(entry: Entry) -> str:
    line = number(entry.get("line"))
    return f"{clean(entry.get('file'), 160)}:{NOTHING if line is None else format(line, '.0f')}"


def _causes(place: Entry, words: int) -> str:
    return ", ".join(CAUSES[cause][words] if cause in CAUSES else clean(cause) for cause in place["causes"])


def _culprit(place: Entry) -> Culprit:
    line = number(place.get("line"))
    times = number(place.get("count"))
    detail = [f"in {clean(place.get('function'), 80)}"]
    if place.get("task"):
        detail.append(f"task {place['task']}")
    detail.append(_causes(place, 1))
    return Culprit(
        loop=clean(place.get("loop"), 160),
        place=_place(place),
        call=clean(place.get("call"), 120),
        detail=", ".join(detail),
        figures=f"{'once' if times == 1 else count(times) + ' times'}, longest {duration(place.get('longest_s'))}, "
        f"{duration(place.get('total_s'))} in all",
        excerpt=tuple(_excerpt_line(row, line) for row in _rows(place.get("excerpt"))),
    )


def _rows(excerpt: Any) -> list[tuple[Any, Any]]:
    rows = excerpt if isinstance(excerpt, list | tuple) else ()
    return [(row[0], row[1]) for row in rows[:7] if isinstance(row, list | tuple) and len(row) >= 2]


def _excerpt_line(row: tuple[Any, Any], blocking_line: float | None) -> tuple[str, str, bool]:
    at = number(row[0])
    return (NOTHING if at is None else format(at, ".0f"), code_line(row[1]), at is not None and at == blocking_line)
