"""How long event loops were stalled by code of their own process, over several loops and witnesses.

Only what the code can be blamed for counts: stalls with the cause "loop", and those with the cause "gil" for which the
frame that held the interpreter lock is known. Garbage collection and a busy machine are shown in the report, not here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from asyncload_lib.results.event_loops import HUB, deciding_loops, is_of_generator, is_of_target
from asyncload_lib.results.figures import number
from asyncload_lib.results.wording import time_words

__all__ = [
    "STALL_METRICS",
    "Seen",
    "by_place",
    "charged",
    "hub_limit_s",
    "is_about",
    "is_blamed",
    "is_watched",
    "joined",
    "longest_unrecorded",
    "most_of_queues",
    "observe_loops",
]

STALL_METRICS: Mapping[str, str] = {"max_stall": "time", "stalls": "count", "blocked_time": "time", "lag_p99": "time"}

HUB_LIMIT_S = 0.2

Loop = Mapping[str, Any]


class Seen(NamedTuple):
    """A figure, None if it is not known, and what there is to say of it."""

    value: float | None
    remark: str


def observe_loops(loops: Sequence[Loop], metric: str, subject: str) -> Seen:
    """Return the metric over the watched loops of `subject`, and a remark: the culprit, or why there is no value.

    Of a loop seen from outside, only what is proven; what it may be beyond that tells `most_of_queues`.

    `target` means its own loops, `generator` its own, hubs included; a scenario means those that decide whether a loop
    was blocked (`deciding_loops`). The worst loop counts, for counts and sums too.
    """
    chosen = _chosen(loops, subject)
    if unjudged := _unjudged(loops, subject):
        return Seen(None, _silence(unjudged))
    values = [charged(loop, metric) for loop in chosen]
    if not values or any(value is None for value in values):
        return Seen(None, f"no event loop of {subject} was watched" if not chosen else f"{metric} was not measured")
    worst = max(range(len(values)), key=lambda index: values[index] or 0.0)
    return Seen(values[worst], _remark(chosen[worst], has_stalled=bool(values[worst])))


def is_about(loops: Sequence[Loop], subject: str) -> bool:
    """Tell whether `subject` has any loop among these, watched or not."""
    is_its = {"target": is_of_target, "generator": is_of_generator}.get(subject)
    return is_its is None or any(map(is_its, loops))


def most_of_queues(loops: Sequence[Loop], metric: str, subject: str) -> Seen:
    """Return what the metric may be where a queue and a blocked loop look the same, and why; None where none do."""
    queues = [loop for loop in _chosen(loops, subject) if _is_bounded(loop)]
    if metric == "lag_p99" or not queues:
        return Seen(None, "")
    worst = max(queues, key=lambda loop: loop["max_stall"])
    return Seen(
        max(loop[_FLAT[metric]] for loop in queues),
        f"{worst['name']}: an answer was late by {time_words(worst['max_stall'])} while other requests were in "
        "flight; seen from outside, a queue of those requests and a blocked loop look the same",
    )


def is_free_target(loops: Sequence[Loop]) -> bool:
    """Tell whether every loop of the target was seen from inside, and none of them was blocked."""
    inside = [loop for loop in loops if is_of_target(loop) and loop.get("witness") == "inside"]
    return bool(inside) and all(is_watched(loop) and loop.get("blocked") is False for loop in inside)


def hub_limit_s(loop_limit_s: float) -> float:
    """Return from which length (s) on stalls of the generator's hub are recorded, where loops have this limit."""
    return max(loop_limit_s, HUB_LIMIT_S)


def longest_unrecorded(loops: Sequence[Loop], subject: str) -> float | None:
    """Return how long (s) a stall of the watched loops of `subject` may be without being recorded."""
    limits = [loop.get("limit_s") for loop in _chosen(loops, subject)]
    return max((float(limit) for limit in limits if isinstance(limit, int | float)), default=None)


def _chosen(loops: Sequence[Loop], subject: str) -> list[Loop]:
    watched = [loop for loop in loops if is_watched(loop)]
    if subject == "generator":
        return [loop for loop in watched if is_of_generator(loop)]
    return [loop for loop in deciding_loops(watched) if subject != "target" or is_of_target(loop)]


def _unjudged(loops: Sequence[Loop], subject: str) -> list[Loop]:
    """Return the loops that were not judged: each may be the one that was blocked, and no other passes for it."""
    targets = [loop for loop in loops if is_of_target(loop)]
    inside = [loop for loop in targets if loop.get("witness") == "inside"]
    generators = [loop for loop in loops if is_of_generator(loop)]
    if subject == "generator":
        asked = generators
    else:
        users = [] if subject == "target" else [loop for loop in generators if loop.get("name") != HUB]
        asked = [*(inside or targets), *users]
    return [loop for loop in asked if not is_watched(loop)]


def _silence(unjudged: Sequence[Loop]) -> str:
    """Say why a loop could not be judged: the target's, if it is one of them."""
    targets = [loop for loop in unjudged if is_of_target(loop)]
    notes = " ".join(dict.fromkeys(str(loop.get("note") or "") for loop in targets or unjudged))
    return f"the {'target' if targets else 'generator'}'s loop could not be judged. {notes}".strip()


def is_watched(loop: Loop) -> bool:
    """Tell whether anything is known of how long this loop was blocked."""
    watched_s = loop.get("watched_s")
    is_judged = loop.get("blocked") is not None or _is_bounded(loop)
    return isinstance(watched_s, int | float) and watched_s > 0 and is_judged


def _is_bounded(loop: Loop) -> bool:
    """Tell whether all that is known of a loop is how long it was blocked at least, and at most."""
    return loop.get("proven_stall") is not None


def charged(loop: Loop, metric: str) -> float | None:
    """Return a metric of one loop: of its stalls, those that count; None where it is not known."""
    if metric == "lag_p99":
        value = (loop.get("lag") or {}).get("p99")
    elif _is_bounded(loop):
        value = _proven(loop)[metric]
    else:
        value = _of_code(loop)[metric] if loop.get("by_cause") else loop.get(_FLAT[metric])
        if value is None and loop.get("stalls") == 0:
            value = 0.0
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


_FLAT = {"max_stall": "max_stall", "stalls": "stalls", "blocked_time": "blocked_s"}


def _proven(loop: Loop) -> Mapping[str, float]:
    """Return the same as `_of_code` of a loop seen from outside: one stall, if it is proven to be over the limit."""
    proven_s, blocked = loop["proven_stall"], bool(loop.get("blocked"))
    return {"max_stall": proven_s, "stalls": float(blocked), "blocked_time": proven_s if blocked else 0.0}


def _of_code(loop: Loop) -> Mapping[str, float]:
    """Return longest, number and sum of the stalls that code is to blame for."""
    found = [row for row in loop.get("culprits") or [] if row.get("cause") == "gil" and is_blamed(loop, row)]
    holders = [{key: number(row.get(key)) or 0.0 for key in ("longest_s", "count", "total_s")} for row in found]
    by_loop = {key: number((loop["by_cause"].get("loop") or {}).get(key)) or 0.0 for key in _FLAT.values()}
    return {
        "max_stall": max([by_loop["max_stall"], *(row["longest_s"] for row in holders)]),
        "stalls": by_loop["stalls"] + sum(row["count"] for row in holders),
        "blocked_time": by_loop["blocked_s"] + sum(row["total_s"] for row in holders),
    }


def is_blamed(loop: Loop, culprit: Mapping[str, Any]) -> bool:
    """Tell whether the stalls of this culprit count, if its loop is one that decides (`deciding_loops`).

    In a generator it is Locust's hub or asyncload itself that keeps the GIL: that is its validity, not a verdict.
    """
    if culprit.get("cause") == "gil":
        return bool(culprit.get("function")) and not is_of_generator(loop)
    return culprit.get("cause") == "loop"


def _remark(loop: Loop, has_stalled: bool) -> str:
    culprits = [row for row in loop.get("culprits") or [] if row.get("function") and is_blamed(loop, row)]
    if not culprits:
        name = str(loop.get("name"))
        if _is_bounded(loop):
            return f"{name}{_from_outside(loop)}"
        return f"worst loop: {_WHOSE.get(name, name)}" if has_stalled else ""
    places = [joined(rows) for rows in by_place(culprits)]
    longest, most = (max(places, key=lambda row: number(row.get(key)) or 0.0) for key in ("longest_s", "total_s"))
    often = f"{time_words(most['total_s'])} in all, {most['count']:.0f} times"
    beside = "" if most is longest else f"; {_place(most)} for {often}"
    return f"{loop.get('name')}: {_place(longest)}{beside}"


_WHOSE = {"target": "the target's", "generator": "the generator's", HUB: "the generator's hub"}


def by_place(culprits: Iterable[Loop]) -> list[list[Loop]]:
    """Return culprits in groups of one file, line and function each, whichever tasks or threads came by there.

    One whose place is not known is a group by itself.
    """
    places: dict[tuple[str, ...], list[Loop]] = {}
    for row in culprits:
        spot = tuple(str(row.get(key)) for key in ("file", "line", "function"))
        places.setdefault(spot if row.get("function") else (str(len(places)),), []).append(row)
    return list(places.values())


def joined(rows: Sequence[Loop]) -> dict[str, Any]:
    """Return the culprits of one place as one: the longest of them, with the number and the time of all."""
    longest = max(rows, key=lambda row: number(row.get("longest_s")) or 0.0)
    sums = {key: sum(number(row.get(key)) or 0.0 for row in rows) for key in ("count", "total_s")}
    return {**longest, **sums}


def _from_outside(loop: Loop) -> str:
    if late_s := loop.get("max_stall"):
        return f", at least this long: an answer was late by {time_words(late_s)}"
    shortest_s = (loop.get("period_s") or 0.0) + (loop.get("limit_s") or 0.0)
    return f": none seen; one shorter than {time_words(shortest_s)} can fall between two check requests"


def _place(culprit: Mapping[str, Any]) -> str:
    return f"{culprit.get('file')}:{culprit.get('line')} in {culprit['function']}"
