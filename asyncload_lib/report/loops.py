"""What was seen of the event loops, prepared for display: witnesses side by side, then what blocked them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncload_lib.report.culprits import CAUSES, Culprit, culprits_of, other_stalls
from asyncload_lib.report.entries import Entry, mapping, mappings
from asyncload_lib.report.numbers import NOTHING, count, duration, short_duration
from asyncload_lib.report.one_sided import NOTE_LENGTH
from asyncload_lib.report.scenario_tables import phases_of
from asyncload_lib.report.table import Column, Table, Verdict
from asyncload_lib.report.text import clean
from asyncload_lib.results.event_loops import deciding_loops, is_of_target
from asyncload_lib.results.figures import number
from asyncload_lib.verdict.observation import is_beside_target
from asyncload_lib.verdict.stalls import charged, is_blamed

__all__ = ["LoopSection", "blocked_verdict", "in_order", "loop_section"]


@dataclass(frozen=True)
class LoopSection:
    """One column per loop and witness, then the lines that blocked, then stalls that decide nothing."""

    table: Table | None
    culprits: tuple[Culprit, ...]
    more: str
    others: Table | None
    notes: tuple[str, ...]


def blocked_verdict(blocked: Any, loops: list[Entry]) -> Verdict:
    """Say whether any of `loops` was; not knowing is not the same as not blocked, nor as nobody having looked."""
    if blocked is True:
        return Verdict("blocked", "✗", "fail")
    if blocked is False:
        return Verdict("not blocked", "✓", "pass")
    is_watched = any(number(loop.get("watched_s")) for loop in loops if loop.get("blocked") is None)
    return Verdict("cannot tell" if is_watched else "not watched", "○", "none")


def _loop_verdict(loop: Entry, decides: bool) -> Verdict:
    """Say whether a loop was blocked; of one that does not decide, only that it stands here for comparison."""
    if decides or loop.get("blocked") is None:
        return blocked_verdict(loop.get("blocked"), [loop])
    return Verdict("not decisive", "○", "none")


def in_order(loops: list[Entry]) -> list[Entry]:
    """Put the target's witnesses first, in their own order: they are what a report is read for."""
    return sorted(loops, key=lambda loop: not is_of_target(loop))


def loop_section(metric: Entry) -> LoopSection:
    """Prepare the `event_loops` of a scenario."""
    loops = in_order(mappings(metric.get("event_loops")))
    deciding = set(map(id, deciding_loops(loops)))  # not by what they hold: two workers may have seen the same
    blamed: list[Entry] = []
    others: list[Entry] = []
    for loop in loops:
        for entry in mappings(loop.get("culprits")):
            counts = id(loop) in deciding and is_blamed(loop, entry)
            (blamed if counts else others).append({**entry, "loop": loop.get("name")})
    culprits, more = culprits_of(blamed)
    notes = [f"{clean(loop.get('name'))}: {clean(loop.get('note'), NOTE_LENGTH)}" for loop in loops if loop.get("note")]
    blocked = [loop.get("blocked") for loop in loops if is_of_target(loop)]
    if False in blocked and True not in blocked and is_beside_target(_measured(metric)):
        notes.insert(0, "The target got no load in this scenario, only check requests: its loop was not tested here.")
    return LoopSection(_witness_table(loops, deciding), culprits, more, other_stalls(others), tuple(notes))


def _measured(metric: Entry) -> list[Entry]:
    """Return the phases with nothing but rows in their lists."""
    return [{key: mappings(phase.get(key)) for key in ("endpoints", "request_metrics")} for phase in phases_of(metric)]


def _witness_table(loops: list[Entry], deciding: set[int]) -> Table | None:
    """One column per witness, so that inside and outside stand side by side."""
    if not loops:
        return None
    rows: list[tuple[str, list[Any]]] = [("Verdict", [_loop_verdict(loop, id(loop) in deciding) for loop in loops])]
    rows += [(label, [cell(loop) for loop in loops]) for label, cell in _ROWS]
    for key, cause in CAUSES.items():
        cells = [_by_cause(loop, key) for loop in loops]
        if any(cell not in ("0", NOTHING) for cell in cells):
            rows.append((f"Stalls by {cause.short}", cells))
    shown = tuple((label, *cells) for label, cells in rows if any(cell != NOTHING for cell in cells))
    columns = (Column(""), *(Column(clean(loop.get("name"), 40), "number") for loop in loops))
    return Table("Event loops", columns, shown)


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


def _late(key: str, words: Callable[[Any], str]) -> Callable[[Entry], str]:
    return lambda loop: words(loop.get(key)) if _is_late(loop) else NOTHING


def _lag(key: str) -> Callable[[Entry], str]:
    return lambda loop: duration(mapping(loop.get("lag")).get(key))


_ROWS: tuple[tuple[str, Callable[[Entry], str]], ...] = (
    ("Seen from", lambda loop: clean(loop.get("witness"))),
    ("Process", lambda loop: clean(loop.get("process"), 60)),
    ("Longest stall charged to the code (max_stall)", lambda loop: _of_code(loop, "max_stall", duration)),
    ("Stall proven from outside", _proven),
    ("Stall limit", lambda loop: short_duration(loop.get("limit_s"))),
    ("Stalls charged to the code (stalls)", lambda loop: _of_code(loop, "stalls", count)),
    ("Time stalled by the code (blocked_time)", lambda loop: _of_code(loop, "blocked_time", duration)),
    ("Longest delay of an answer", _late("max_stall", duration)),
    ("Late answers", _late("stalls", count)),
    ("Sum of delays", _late("blocked_s", duration)),
    ("Lag p50", _lag("p50")),
    ("Lag p99", _lag("p99")),
    ("Largest lag", _lag("max")),
    ("Watched for", lambda loop: duration(loop.get("watched_s"))),
    ("Heartbeat every", lambda loop: short_duration(loop.get("period_s"))),
)
