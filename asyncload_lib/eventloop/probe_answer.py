"""What a target's probe answers: whether it is a probe's answer at all, and whose findings it can stand for."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

__all__ = ["NOTHING_SEEN", "Confirmation", "answer_of", "confirmed", "inside_rows", "strangers"]

SLACK_S = 0.1
"""How far the time that a worker has watched may be off the time since its reset."""
CLOCK_SHARE = 0.001
"""How much two machines' clocks may run apart; NTP's steering changes less."""

Json = dict[str, Any]

_NUMBER = (int, float)
_SHAPE: dict[str, type | tuple[type, ...]] = {
    "pid": int,
    "watched_s": _NUMBER,
    "period_s": _NUMBER,
    "limit_s": _NUMBER,
    "max_stall": _NUMBER,
    "stalls": int,
    "blocked_s": _NUMBER,
    "blocked": (bool, type(None)),
    "lag": dict,
    "by_cause": dict,
    "culprits": list,
    "series": list,
    "stall_times": list,
    "note": str,
}
"""Keys of one worker's findings, all of which a row of `event_loops` needs."""
_SUMMED = ("count", "total_s", "longest_s")

NOTHING_SEEN = dict.fromkeys(("watched_s", "limit_s", "max_stall", "stalls", "blocked_s", "blocked"))
"""What a row of `event_loops` says of a loop of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What came of a reset: when it was sent and answered (perf_counter), and the workers that confirmed it.

    `problem`: why there was no answer. `asked_again`: whether another reset was sent since, amid the load, and not
    confirmed. It may still have been carried out, at whatever moment: what a worker has found is then of this
    measurement, but perhaps not all that there was to find.
    """

    sent_s: float
    answered_s: float
    pids: frozenset[int]
    problem: str = ""
    asked_again: bool = False

    @property
    def note(self) -> str:
        """What a reader of the findings must know."""
        told = "When all users were there, the target did not confirm in time that its watch began anew"
        return f"{told}: what it did before may be counted, too." if self.asked_again else ""

    def shortest_s(self, asked_s: float) -> float:
        """Return how long a worker must have watched that has begun with this reset and is asked now."""
        return (asked_s - self.answered_s) * (1 - CLOCK_SHARE) - SLACK_S


def answer_of(body: bytes, *, reset: bool) -> Json | None:
    """Return the answer of a probe to a reset or to a reading; None if this is something else's."""
    try:
        found = json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(workers := found.get("workers"), list) or not workers:
        return None
    return found if all(_is_worker(worker, reset) for worker in workers) else None


def _is_worker(worker: Any, reset: bool) -> bool:
    if not isinstance(worker, dict) or not isinstance(worker.get("worker"), int):
        return False
    if isinstance(worker.get("silent"), str):
        return isinstance(worker.get("pid", ""), int | None)
    if reset:
        return worker.get("reset") is True and isinstance(worker.get("pid"), int)
    return (
        all(isinstance(worker.get(key, ...), kind) for key, kind in _SHAPE.items())
        and all(isinstance(worker["lag"].get(key, ...), (*_NUMBER, type(None))) for key in ("p50", "p99", "max"))
        and all(isinstance(cause, dict) for cause in worker["by_cause"].values())
        and all(isinstance(value, _NUMBER) for cause in worker["by_cause"].values() for value in cause.values())
        and all(isinstance(row, dict) for key in ("culprits", "series", "stall_times") for row in worker[key])
        and all(isinstance(row.get(key), _NUMBER) for row in worker["culprits"] for key in _SUMMED)
    )


def confirmed(answer: Json) -> frozenset[int]:
    """Return the workers that have begun anew."""
    return frozenset(worker["pid"] for worker in answer["workers"] if worker.get("reset") is True)


def strangers(answer: Json, confirmation: Confirmation, asked_s: float, answered_s: float) -> dict[int | None, str]:
    """Return by process the workers of an answer that are not among those that were reset, each with the reason.

    A worker that was reset and now gives no answer is not one of them: its own row will say so.
    """
    known = {*confirmation.pids, None}
    others = [worker for worker in answer["workers"] if "silent" not in worker or worker["pid"] not in known]
    found = ((worker["pid"], _objection(worker, confirmation, asked_s, answered_s)) for worker in others)
    return {pid: why for pid, why in found if why}


def inside_rows(
    answer: Json,
    confirmation: Confirmation | None,
    asked_s: float,
    answered_s: float,
    others: Mapping[int | None, str] | None = None,
) -> list[Json]:
    """Return one row of `event_loops` for each worker.

    A worker that gave no findings, or not exactly those since the reset, is not judged (`blocked` None), and its row
    says why. The same holds for each of the `others`, which answered on another connection.
    """
    workers, rows = answer["workers"], []
    others = dict(others or {})
    for worker in workers:
        pid = "unknown" if worker["pid"] is None else worker["pid"]
        process = f"worker {worker['worker']}, pid {pid}" if len(workers) > 1 else f"pid {pid}"
        if why := _objection(worker, confirmation, asked_s, answered_s) or _gap(worker, confirmation, asked_s):
            others.pop(worker["pid"], None)
            rows.append({**_silent(worker, process), "blocked": None, "note": f"Not judged: {why}."})
            continue
        row = {key: worker[key] for key in _SHAPE if key != "pid"}
        notes = (row["note"], answer.get("problem"), confirmation.note if confirmation else "")
        note = " ".join(filter(None, notes))
        rows.append({**row, "name": "target", "witness": "inside", "process": process, "note": note})
    gone = (confirmation.pids if confirmation else frozenset()) - {worker["pid"] for worker in workers}
    missing = "this worker was reset at the start and is missing at the end"
    rows += [_unread(f"pid {pid}", missing) for pid in sorted(gone)]
    for why in dict.fromkeys(others.values()):
        who = ", ".join("a server" if pid is None else f"pid {pid}" for pid in others if others[pid] == why)
        rows.append(_unread(f"{who}, on another connection", f"another connection was answered by {who}: {why}"))
    return rows


def _unread(process: str, why: str) -> Json:
    """Return the row of what belongs to the target and was not read."""
    return {**_silent({}, process), "note": f"Not judged: {why}."}


def _objection(worker: Json, confirmation: Confirmation | None, asked_s: float, answered_s: float) -> str:
    """Return why a worker's findings prove nothing, or ""."""
    if "silent" in worker:
        return str(worker["silent"])
    if confirmation is None or confirmation.problem:
        why = f" ({confirmation.problem})" if confirmation else ""
        return f"the target did not confirm that its probe was reset when the measurement began{why}"
    if worker["pid"] not in confirmation.pids:
        what = "its probe was reset when the measurement began"
        return f"this worker did not confirm that {what} (is there a load balancer?)"
    watched_s = worker["watched_s"]
    longest_s = (answered_s - confirmation.sent_s) * (1 + CLOCK_SHARE) + SLACK_S
    shortest_s = 0.0 if confirmation.asked_again else confirmation.shortest_s(asked_s)
    if not shortest_s <= watched_s <= longest_s:
        since_s = answered_s - confirmation.sent_s
        return f"it has watched for {watched_s:.1f} s, but {since_s:.1f} s have passed since it should have been reset"
    return ""


def _gap(worker: Json, confirmation: Confirmation | None, asked_s: float) -> str:
    """Return why a worker that has found no stall may have forgotten one, or ""."""
    if confirmation is None or worker["blocked"] or worker["watched_s"] >= confirmation.shortest_s(asked_s):
        return ""
    return "it began anew some time after all users were there, and what it did until then is unknown"


def _silent(worker: Json, process: str) -> Json:
    known = {key: worker[key] for key in _SHAPE if key in worker and key != "pid"}
    return {**NOTHING_SEEN, **known, "name": "target", "witness": "inside", "process": process}


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(text)
    return value
