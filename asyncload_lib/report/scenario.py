"""One scenario prepared for display: headline figures, percentiles with their interval, tables, before and after."""

from dataclasses import dataclass
from typing import Any

from .loops import LoopSection, blocked_verdict, loop_section
from .table import Entry, Fact, Table, Verdict, build_table, mapping, mappings, verdict
from .text import clean
from .units import NOTHING, count, duration, number, percent, quantity, rate, ratio, span

__all__ = ["PERCENTILES", "Improvement", "Scenario", "prepare", "prepare_improvement"]

PERCENTILES = ("p50", "p95", "p99", "p99.9")


@dataclass(frozen=True)
class Improvement:
    """Before and after of one scenario; widths are percentages of the longer bar."""

    name: str
    words: str
    tone: str
    before: str
    after: str
    before_width: str
    after_width: str
    before_label: str
    facts: tuple[Fact, ...]
    explanation: str


@dataclass(frozen=True)
class Scenario:
    """Everything the templates show of one scenario; `index` is its place in the results' `metrics`."""

    index: int
    name: str
    title: str
    phase: str
    verdict: Verdict | None
    tiles: tuple[Fact, ...]
    notes: tuple[str, ...]
    percentiles: Table | None
    tables: tuple[Table, ...]
    loops: LoopSection


def prepare(metric: Entry, index: int) -> Scenario:
    """Prepare one entry of `metrics`."""
    return Scenario(
        index=index,
        name=clean(metric.get("scenario"), 60),
        title=clean(metric.get("test_name") or metric.get("scenario"), 120),
        phase=clean(metric.get("phase"), 60),
        verdict=_overall(metric),
        tiles=_tiles(metric),
        notes=tuple(_notes(metric)),
        percentiles=_percentiles(metric),
        tables=tuple(table for table in _tables(metric) if table is not None),
        loops=loop_section(mappings(metric.get("event_loops"))),
    )


def _overall(metric: Entry) -> Verdict | None:
    """The worst verdict among the scenario's criteria; None when it has none."""
    words = [str(entry.get("verdict")) for entry in mappings(metric.get("criteria"))]
    for word in ("fail", "no data", "pass", "not evaluated"):
        if word in words:
            return verdict(word)
    return None


def _tiles(metric: Entry) -> tuple[Fact, ...]:
    blocked = blocked_verdict(metric.get("event_loop_blocked"))
    failed = number(metric.get("failed_requests"))
    return (
        Fact("Total time", duration(metric.get("total_time")), f"{count(metric.get('concurrency'))} at the same time"),
        Fact("Throughput", rate(metric.get("requests_per_second")), f"{count(metric.get('total_requests'))} requests"),
        *(_percentile_tile(metric, name) for name in PERCENTILES[:3]),
        Fact("Errors", percent(metric.get("error_rate")), f"{count(failed)} failed", "fail" if failed else ""),
        Fact("Event loop", str(blocked), _longest_stall(metric), blocked.tone),
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


def _longest_stall(metric: Entry) -> str:
    stalls = [number(loop.get("max_stall")) for loop in mappings(metric.get("event_loops"))]
    known = [stall for stall in stalls if stall is not None]
    return f"longest stall {duration(max(known))}" if known else "no data"


def _percentiles(metric: Entry) -> Table | None:
    latency, failed = mapping(metric.get("latency")), mapping(metric.get("failed_latency"))
    shown = [name for name in PERCENTILES if name in latency or name in failed]

    def resolution(name: str) -> str:
        entry = mapping(latency.get(name))
        if number(entry.get("value")) is None:
            return "no data"
        fallback = "" if entry.get("resolved") else "the sample is too small to bound it"
        note = clean(entry.get("note") or fallback)
        return f"not resolved: {note}" if entry.get("resolved") is False else note.replace(NOTHING, "resolved")

    return build_table(
        "Percentiles of the latency",
        [
            ("Percentile", "text", str),
            ("Successful", "number", lambda name: duration(mapping(latency.get(name)).get("value"))),
            ("95 % interval", "number", lambda name: _interval(mapping(latency.get(name)))),
            ("Resolution", "text", resolution),
            ("Failed", "number", lambda name: duration(failed.get(name))),
        ],
        shown,
    )


def _interval(entry: Entry) -> str:
    return span(entry.get("ci_low"), entry.get("ci_high"))


def _notes(metric: Entry) -> list[str]:
    """Sentences about requests that are in no percentile, and about the simultaneous start."""
    notes = []
    abandoned = number(metric.get("abandoned_requests"))
    if abandoned:
        age = metric.get("abandoned_max_age")
        notes.append(f"{count(abandoned)} requests were cut off in flight, the oldest after {duration(age)}.")
    if number(metric.get("invalid_latencies")):
        notes.append(f"{count(metric.get('invalid_latencies'))} latencies were no valid time and are in no percentile.")
    if number(metric.get("start_skew")) is not None:
        notes.append(f"First and last start lay {duration(metric.get('start_skew'))} apart.")
    for key, value in mapping(metric.get("extra")).items():
        notes.append(f"{clean(key, 60).replace('_', ' ')}: {_extra(key, value)}.")
    return notes


def _extra(key: str, value: Any) -> str:
    if key.endswith(("_s", "slowest")):
        return duration(value)
    if key.endswith(("degradation", "interference", "speedup")):
        return ratio(value)
    return percent(value) if key == "reachable" else quantity(value)


def _tables(metric: Entry) -> list[Table | None]:
    phases = mappings(metric.get("phases"))
    return [
        _phase_table(phases, mapping(metric.get("baseline"))),
        _endpoint_table(mappings(metric.get("endpoints"))),
        _metric_table(mappings(metric.get("request_metrics"))),
        _error_table(mappings(metric.get("errors"))),
        _vm_table(mappings(metric.get("vms"))),
    ]


def _phase_table(phases: list[Entry], baseline: Entry) -> Table | None:
    rows = [*phases, *([{**baseline, "phase": f"baseline: {baseline.get('kind')}"}] if baseline else [])]
    if len(rows) < 2:
        return None
    return build_table(
        "Phases",
        [
            ("Phase", "text", lambda row: clean(row.get("phase"), 60)),
            ("At once", "number", lambda row: count(row.get("concurrency"))),
            ("Total time", "number", lambda row: duration(row.get("total_time"))),
            ("Requests", "number", lambda row: count(row.get("total_requests"))),
            ("Failed", "number", lambda row: count(row.get("failed_requests"))),
            ("Throughput", "number", lambda row: rate(row.get("requests_per_second"))),
            *((f"{name} (ok)", "number", _reader(name)) for name in ("p50", "p95", "p99")),
        ],
        rows,
    )


def _reader(name: str) -> Any:
    return lambda row: duration(row.get(f"{name}_latency"))


def _endpoint_table(endpoints: list[Entry]) -> Table | None:
    return build_table(
        "Endpoints",
        [
            ("Endpoint", "code", lambda row: _endpoint(row, 90)),
            ("Requests", "number", lambda row: count(row.get("total_requests"))),
            ("Throughput", "number", lambda row: rate(row.get("requests_per_second"))),
            ("Ok", "number", lambda row: count(row.get("successful_requests"))),
            ("Ok min", "number", lambda row: duration(row.get("min_response_time"))),
            ("Ok mean", "number", lambda row: duration(row.get("avg_response_time"))),
            *((f"Ok {name}", "number", _reader(name)) for name in ("p50", "p95", "p99")),
            ("Ok max", "number", lambda row: duration(row.get("max_response_time"))),
            ("Failed", "number", lambda row: count(row.get("failed_requests"))),
            ("Failed p95", "number", lambda row: duration(row.get("failed_p95_latency"))),
        ],
        endpoints,
        "Failed requests are in no percentile of the successful ones.",
    )


def _endpoint(row: Entry, limit: int) -> str:
    kind = clean(row.get("type"), 20)
    return clean(row.get("name"), limit) if kind == NOTHING else f"{kind} {clean(row.get('name'), limit)}"


def _metric_table(metrics: list[Entry]) -> Table | None:
    return build_table(
        "Metrics of a request",
        [
            ("Metric", "text", lambda row: clean(row.get("name"), 60).replace("_", " ")),
            ("Request", "code", lambda row: clean(row.get("request") or None, 90)),
            ("Count", "number", lambda row: count(row.get("count"))),
            *((title, "number", _plain(title)) for title in ("min", "avg", "p50", "p95", "p99", "max")),
        ],
        metrics,
        "These are not requests: they enter no request count and no rate.",
    )


def _plain(key: str) -> Any:
    return lambda row: duration(row.get(key))


def _error_table(errors: list[Entry]) -> Table | None:
    return build_table(
        "Errors, grouped",
        [
            ("Count", "number", lambda row: count(row.get("count"))),
            ("Endpoint", "code", lambda row: _endpoint(row, 90)),
            ("Error", "text", lambda row: clean(row.get("error"), 200)),
        ],
        errors,
    )


def _vm_table(vms: list[Entry]) -> Table | None:
    def state(row: Entry) -> Verdict:
        tones = {"up": Verdict("up", "✓", "pass"), "down": Verdict("down", "✗", "fail")}
        return tones.get(str(row.get("state"))) or verdict(row.get("state"))

    return build_table(
        "Machines",
        [
            ("Machine", "text", lambda row: clean(row.get("name"), 60)),
            ("State", "verdict", state),
            ("Check", "text", lambda row: clean(row.get("kind"), 20)),
            ("Address", "code", lambda row: clean(row.get("url"), 120)),
            ("Latency", "number", lambda row: duration(row.get("latency"))),
            ("Started after", "number", lambda row: duration(row.get("start_offset"))),
            ("Error", "text", lambda row: clean(row.get("error"), 160)),
        ],
        vms,
    )


def prepare_improvement(metric: Entry) -> Improvement | None:
    """Prepare before and after of one scenario; None when no baseline was measured."""
    baseline = mapping(metric.get("baseline"))
    before, after = number(baseline.get("total_time")), number(metric.get("total_time"))
    if not baseline:
        return None
    words, tone = _improvement_words(number(baseline.get("speedup")))
    longest = max(before or 0.0, after or 0.0)
    kind = clean(baseline.get("kind"), 60)
    ceiling = ratio(baseline.get("ceiling"))
    return Improvement(
        name=clean(metric.get("test_name") or metric.get("scenario"), 120),
        words=words,
        tone=tone,
        before=duration(before),
        after=duration(after),
        before_width=_width(before, longest),
        after_width=_width(after, longest),
        before_label=f"blocking ({kind})" if kind != NOTHING else "blocking",
        facts=(
            Fact("C", count(baseline.get("concurrency")), "operations at the same time"),
            Fact("D", duration(baseline.get("blocking_operation_time")), "one blocking operation"),
            Fact("Ceiling", "none" if ceiling == NOTHING else ceiling, "the most this comparison can show"),
        ),
        explanation=clean(baseline.get("explanation") or "", 600).replace(NOTHING, ""),
    )


def _improvement_words(speedup: float | None) -> tuple[str, str]:
    if speedup is None or speedup <= 0:
        return "no data", "nodata"
    if speedup >= 1:
        return f"{ratio(speedup)} faster", "pass"
    return f"{ratio(1 / speedup)} slower", "fail"


def _width(value: float | None, longest: float) -> str:
    return f"{100 * value / longest:.2f}%" if value is not None and longest > 0 else "0%"
