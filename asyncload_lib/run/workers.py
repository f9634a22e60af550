"""What the processes of a run have to answer for: each one's row in the results, and what is missing because of it."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from asyncload_lib.report.numbers import counted
from asyncload_lib.results.model import utc
from asyncload_lib.run.introduction import differences
from asyncload_lib.run.members import Member

__all__ = ["broken_tasks", "losses", "misfits", "not_created", "stopped_early", "worker_rows"]

MOST_EXCEPTIONS = 5
"""Kinds of exceptions that are told one by one."""

Json = dict[str, Any]


def not_created(members: Iterable[Member]) -> list[str]:
    """Say what kept users from being created: load that was asked for and not made."""
    found = dict.fromkeys(member.final.get("not_created") for member in members)
    return [f"not all users could be created: {text}" for text in found if text]


def stopped_early(members: Iterable[Member]) -> list[str]:
    """Say which workers stopped their users by themselves: what those would have done from then on is missing."""
    return [f"worker {member.id} {why}" for member in members if (why := member.final.get("stopped_early"))]


def broken_tasks(members: Iterable[Member]) -> list[str]:
    """Say what tasks raised: what was to come after it is load that was not made."""
    raised: Counter[str] = Counter()
    for member in members:
        raised.update(member.final.get("exceptions", {}))
    told = [
        f"a task was cut short by an exception {counted(times, 'time')}: {text}"
        for text, times in raised.most_common(MOST_EXCEPTIONS)
    ]
    left = len(raised) - len(told)
    return [*told, f"... and {counted(left, 'other exception')}, which are in the log"] if left > 0 else told


def misfits(members: Iterable[Member], ours: Json) -> list[str]:
    """Say which workers cannot do what the master would, and why; `ours`: its own introduction."""
    return [
        f"worker {member.id}{', which joined late' if member.is_late else ''}: {why}"
        for member in members
        if (why := _misfit(member, ours))
    ]


def _misfit(member: Member, ours: Json) -> str:
    if member.hello:
        return "; ".join(differences(ours, member.hello))
    return "" if member.is_late else "it does not answer: is asyncload installed?"


def losses(members: Iterable[Member], totals: Mapping[str, Json], interval_s: float) -> list[str]:
    """Say who was lost, with how much; `totals`: of `Store.workers`, `interval_s`: how often each of them reports."""
    lost = [member for member in members if member.lost_at is not None]
    return [_loss(member, totals.get(member.id, {}), interval_s) for member in lost]


def _loss(member: Member, totals: Json, interval_s: float) -> str:
    heard = f"worker {member.id} was last heard from at {utc(member.lost_at or 0.0)}: {member.lost_why}"
    if member.left:
        return heard
    if member.live:
        return f"{heard}, and came back; what it measured is counted, what it did not do in between is missing"
    if member.last_report is None:
        return f"{heard}; it had reported nothing, so everything it did is lost"
    per_s = totals.get("requests_per_second")
    about = "" if per_s is None else f", about {per_s * interval_s:.0f} operations"
    in_flight = totals.get("in_flight")
    unended = f", plus {counted(in_flight, 'operation')} in flight" if in_flight else ""
    return f"{heard}; lost is at most what it did in the {interval_s:.3g} s after its last report{about}{unended}"


def worker_rows(
    members: Iterable[Member], totals: Mapping[str, Json], processes: Iterable[Json], ours: Json
) -> list[Json]:
    """Return the "workers" of the results.

    `processes`: of the generator, with the figures by which each was judged; `ours`: the master's own introduction.
    """
    judged = {row["process"]: row for row in processes}
    return [_row(member, totals.get(member.id, {}), judged, ours) for member in members]


def _row(member: Member, totals: Json, judged: Mapping[str, Json], ours: Json) -> Json:
    last = member.final.get("health") or {}
    health = judged.get(last.get("process", ""), last)
    hello = member.hello
    remarks = ("joined late" if member.is_late else "", member.lost_why, _misfit(member, ours))
    return {
        "id": member.id,
        "host": hello.get("host"),
        "pid": hello.get("pid"),
        "state": member.state,
        "lost_at": None if member.lost_at is None else utc(member.lost_at),
        "operations": totals.get("operations", 0),
        "in_flight": totals.get("in_flight", 0),
        "requests_per_second": totals.get("requests_per_second"),
        "p95_latency": totals.get("p95_latency"),
        "cpu_percent_max": health.get("cpu_percent_max"),
        "loop_lag_p99": health.get("loop_lag_p99"),
        "hub_lag_p99": health.get("hub_lag_p99"),
        "last_report_age": None if member.last_report is None else round(time.monotonic() - member.last_report, 3),
        "version": hello.get("version"),
        "settings_fingerprint": (hello.get("fingerprint") or "")[:12] or None,
        "clock_offset_s": None if member.round_trip_ns is None else member.offset_ns / 1e9,
        "note": "; ".join(filter(None, remarks)) or None,
    }
