"""One scenario prepared for display: headline figures, percentiles with their interval, what needs to be said."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asyncload_lib.report.entries import Entry, mapping, mappings
from asyncload_lib.report.loops import LoopSection, blocked_verdict, loop_section
from asyncload_lib.report.numbers import NOTHING, count, counted, duration, percent, quantity, rate, ratio, span
from asyncload_lib.report.percentiles import explained, percentile
from asyncload_lib.report.scenario_tables import phases_of, scenario_tables
from asyncload_lib.report.series import lag_series, timeline
from asyncload_lib.report.table import URGENCY, Fact, Table, Verdict, build_table, scenario_title, verdict
from asyncload_lib.report.text import clean
from asyncload_lib.results.event_loops import deciding_loops
from asyncload_lib.results.figures import PERCENTILES, number
from asyncload_lib.verdict.observation import nothing_succeeded
from asyncload_lib.verdict.stalls import most_of_queues, observe_loops

__all__ = ["Scenario", "prepare"]


@dataclass(frozen=True)
class Scenario:
    """Everything the templates show of one scenario; `index` is its place in the results' `metrics`."""

    index: int
    name: str
    title: str
    phase: str
    verdict: Verdict | None
    tiles: tuple[Fact, ...]
    over_time: str
    notes: tuple[str, ...]
    percentiles: Table | None
    tables: tuple[Table, ...]
    loops: LoopSection


def prepare(metric: Entry, index: int) -> Scenario:
    """Prepare one entry of `metrics`."""
    return Scenario(
        index=index,
        name=clean(metric.get("scenario"), 60),
        title=scenario_title(metric),
        phase=clean(metric.get("phase"), 60),
        verdict=_overall(metric),
        tiles=_tiles(metric),
        over_time=_over_time_caption(metric),
        notes=tuple(_notes(metric)),
        percentiles=_percentiles(metric),
        tables=scenario_tables(metric),
        loops=loop_section(metric),
    )


def _over_time_caption(metric: Entry) -> str:
    if timeline(metric):
        return "Percentiles over time, above the event loops' lag"
    if lag_series(mappings(metric.get("event_loops"))):
        return "Event loops' lag over time; the phases were too short for percentiles over time"
    return "Over time"


def _overall(metric: Entry) -> Verdict | None:
    """The worst verdict among the scenario's criteria; None when it has none."""
    words = [str(entry.get("verdict")) for entry in mappings(metric.get("criteria"))]
    return next((verdict(word) for word in URGENCY if word in words), None)


def _tiles(metric: Entry) -> tuple[Fact, ...]:
    failed = number(metric.get("failed_requests"))
    return (
        Fact("Total time", duration(metric.get("total_time")), f"{count(metric.get('concurrency'))} at the same time"),
        Fact("Throughput", rate(metric.get("requests_per_second")), counted(metric.get("total_requests"), "request")),
        *(_percentile_tile(metric, name) for name in ("p50", "p95", "p99")),
        Fact("Errors", percent(metric.get("error_rate")), f"{count(failed)} failed", "fail" if failed else ""),
        _loop_tile(metric),
    )


def _percentile_tile(metric: Entry, name: str) -> Fact:
    entry = mapping(mapping(metric.get("latency")).get(name))
    value = entry.get("value") if entry else metric.get(f"{name}_latency")
    if number(value) is None:
        return Fact(name, NOTHING, "no data")
    if entry.get("resolved") is False:
        return Fact(name, duration(value), "not resolved: sample too small", "doubt")
    interval = span(entry.get("ci_low"), entry.get("ci_high"))
    return Fact(name, duration(value), "" if interval == NOTHING else f"95 % CI {interval}")


def _loop_tile(metric: Entry) -> Fact:
    """Say how long the loop was stalled by code; what the machine did stands in the section of the loops."""
    blocked, loops = metric.get("event_loop_blocked"), mappings(metric.get("event_loops"))
    state = blocked_verdict(blocked, deciding_loops(loops))
    if blocked is False and nothing_succeeded({**metric, "phases": mappings(metric.get("phases"))}):
        return Fact("Event loop", str(state), "no request succeeded: not tested", "doubt")
    scenario = str(metric.get("scenario"))
    longest_s = observe_loops(loops, "max_stall", scenario).value
    late_s = most_of_queues(loops, "max_stall", scenario).value
    if late_s and blocked is not False:
        at_least = f"stalled for at least {duration(longest_s)}, " if blocked else ""
        note = f"{at_least}an answer was late by {duration(late_s)}"
    elif longest_s is None:
        note = "no data"
    else:
        note = f"longest stall {duration(longest_s)}" if longest_s else _no_stall(loops)
    return Fact("Event loop", str(state), note, state.tone)


def _no_stall(loops: list[Entry]) -> str:
    """Say so, and whether the table of loops lists stalls all the same: of other causes, or of Locust's hub."""
    causes = [mapping(found) for loop in loops for found in mapping(loop.get("by_cause")).values()]
    return "no stall that counts" if any(number(found.get("stalls")) for found in causes) else "no stall"


def _percentiles(metric: Entry) -> Table | None:
    latency, failed = mapping(metric.get("latency")), mapping(metric.get("failed_latency"))
    shown = [name for name in PERCENTILES if name in latency or name in failed]

    def resolution(name: str) -> str:
        entry = mapping(latency.get(name))
        if number(entry.get("value")) is None:
            return "no data"
        if entry.get("note"):
            return clean(entry["note"])
        return "resolved" if entry.get("resolved") else "no 95 % interval: the sample is too small"

    table = build_table(
        "Percentiles of the latency",
        [
            ("Percentile", "text", str),
            ("Successful", "number", lambda name: duration(mapping(latency.get(name)).get("value"))),
            ("95 % interval", "number", lambda name: _interval(mapping(latency.get(name)))),
            ("Resolution", "text", resolution),
            ("Failed", "number", lambda name: percentile(failed, name)),
        ],
        shown,
    )
    return explained(table)


def _interval(entry: Entry) -> str:
    return span(entry.get("ci_low"), entry.get("ci_high"))


def _notes(metric: Entry) -> list[str]:
    """Sentences about requests that are in no percentile, and about the simultaneous start."""
    notes = []
    for phase in phases_of(metric):
        where = f"Phase {clean(phase.get('phase'), 60)}:"
        if number(phase.get("abandoned_requests")):
            cut_off = counted(phase.get("abandoned_requests"), "request was", "requests were")
            age = duration(phase.get("abandoned_max_age"))
            notes.append(f"{where} {cut_off} cut off in flight, the oldest after {age}.")
        if number(phase.get("invalid_latencies")):
            invalid = counted(phase.get("invalid_latencies"), "latency was", "latencies were")
            notes.append(f"{where} {invalid} invalid and in no percentile.")
    if number(metric.get("start_skew")) is not None:
        notes.append(f"The first and the last start were {duration(metric.get('start_skew'))} apart (start_skew).")
    for key, value in mapping(metric.get("extra")).items():
        what, written = _EXTRAS.get(key, ("", quantity))
        notes.append(f"{clean(key, 60)}{what}: {written(value)}.")
    return notes


_EXTRAS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "degradation": (" (p95 in the phase sustained divided by that in few)", ratio),
    "redis_interference": (" (p95 of Redis in the phase mixed divided by that in redis_alone)", ratio),
    "file_interference": (" (p95 of files in the phase mixed divided by that in files_alone)", ratio),
    "reachable": (" (of all machines)", percent),
    "slowest_check": (" (its own time, from its request to its answer)", duration),
    "beyond_slowest": (" (how much longer all checks together took than the slowest)", duration),
}
"""What a scenario's own figures are, and how each is written."""
