"""The tables of one scenario: phases, then endpoints, metrics of a request and errors of every phase, machines."""

from collections.abc import Callable, Mapping

from asyncload_lib.report.entries import Entry, mapping, mappings
from asyncload_lib.report.numbers import NOTHING, count, duration, rate
from asyncload_lib.report.percentiles import explained, percentile
from asyncload_lib.report.table import Table, Verdict, build_table, verdict
from asyncload_lib.report.text import clean

__all__ = ["phases_of", "scenario_tables"]


def scenario_tables(metric: Entry) -> tuple[Table, ...]:
    """Give phases, endpoints, metrics of a request, errors and machines: those of them that there are."""
    phases = phases_of(metric)
    tables = (
        _phase_table(phases),
        _endpoint_table(_of_all(phases, "endpoints")),
        _metric_table(_of_all(phases, "request_metrics")),
        _error_table(_of_all(phases, "errors")),
        _vm_table(mappings(metric.get("vms"))),
    )
    return tuple(table for table in tables if table is not None)


def phases_of(metric: Entry) -> list[Entry]:
    """Give the phases of a scenario, the baseline last; a scenario without phases is one itself."""
    baseline = mapping(metric.get("baseline"))
    return [*(mappings(metric.get("phases")) or [metric]), *([baseline] if baseline else [])]


def _of_all(phases: list[Entry], key: str) -> list[Entry]:
    return [{**row, "phase": phase.get("phase")} for phase in phases for row in mappings(phase.get(key))]


_PHASE = ("Phase", "text", lambda row: clean(row.get("phase"), 60))

_PHASE_WORDS: Mapping[str, str] = {
    "warm_up": "the first requests, not judged",
    "few": "few users in conversations",
    "burst": "all users released at the same instant",
    "sustained": "all users in conversations",
    "redis_alone": "the Redis operations without the files",
    "files_alone": "the file operations without Redis",
    "mixed": "both at once",
    "checks": "all machines checked at the same instant",
    "baseline_warm_up": "the first requests to the blocking service, not judged",
    "baseline": "the same operations, blocking",
    "ramp": "users are still being spawned",
    "run": "all users are there",
}
"""What each phase of the suite, or of a free run, is."""


def _phase_table(phases: list[Entry]) -> Table | None:
    table = build_table(
        "Phases",
        [
            _PHASE,
            ("Users", "number", lambda row: count(row.get("concurrency"))),
            ("Total time", "number", lambda row: duration(row.get("total_time"))),
            ("Started", "number", lambda row: count(row.get("started_requests"))),
            ("Ok", "number", lambda row: count(row.get("successful_requests"))),
            ("Failed", "number", lambda row: count(row.get("failed_requests"))),
            ("Abandoned", "number", lambda row: count(row.get("abandoned_requests"))),
            ("Invalid", "number", lambda row: count(row.get("invalid_latencies"))),
            ("Throughput", "number", lambda row: rate(row.get("requests_per_second"))),
            *((f"{name} (ok)", "number", _latency(name)) for name in ("p50", "p95", "p99")),
        ],
        phases,
        _in_words(phases)
        + "Started = ok + failed + abandoned; invalid latencies, of ok or failed requests, are in no percentile.",
    )
    return explained(table)


def _in_words(phases: list[Entry]) -> str:
    """Say what each phase is, those that somebody else named left out."""
    names = dict.fromkeys(str(phase.get("phase")) for phase in phases)
    told = "; ".join(f"{name}: {_PHASE_WORDS[name]}" for name in names if name in _PHASE_WORDS)
    return f"{told}. " if told else ""


def _latency(name: str) -> Callable[[Entry], str]:
    return lambda row: percentile(row.get("latency"), name, row.get(f"{name}_latency"))


def _endpoint_table(endpoints: list[Entry]) -> Table | None:
    table = build_table(
        "Endpoints",
        [
            _PHASE,
            ("Endpoint", "code", lambda row: _endpoint(row, 90)),
            ("Requests", "number", lambda row: count(row.get("total_requests"))),
            ("Throughput", "number", lambda row: rate(row.get("requests_per_second"))),
            ("Ok", "number", lambda row: count(row.get("successful_requests"))),
            ("Ok min", "number", lambda row: duration(row.get("min_response_time"))),
            ("Ok avg", "number", lambda row: duration(row.get("avg_response_time"))),
            *((f"Ok {name}", "number", _latency(name)) for name in ("p50", "p95", "p99")),
            ("Ok max", "number", lambda row: duration(row.get("max_response_time"))),
            ("Failed", "number", lambda row: count(row.get("failed_requests"))),
            ("Failed p95", "number", _failed_p95),
        ],
        endpoints,
        "The figures marked Ok are of successful requests only.",
    )
    return explained(table)


def _failed_p95(row: Entry) -> str:
    return percentile(row.get("failed_latency"), "p95", row.get("failed_p95_latency"))


def _endpoint(row: Entry, limit: int) -> str:
    kind = clean(row.get("type"), 20)
    return clean(row.get("name"), limit) if kind == NOTHING else f"{kind} {clean(row.get('name'), limit)}"


def _metric_table(metrics: list[Entry]) -> Table | None:
    table = build_table(
        "Metrics of a request",
        [
            _PHASE,
            ("Metric", "text", lambda row: clean(row.get("name"), 60)),
            ("Request", "code", lambda row: clean(row.get("request"), 90)),
            ("Count", "number", lambda row: count(row.get("count"))),
            *((title, "number", _statistic(title)) for title in ("min", "avg", "p50", "p95", "p99", "max")),
        ],
        metrics,
        "These are not requests: they are in no request count and in no rate.",
    )
    return explained(table)


def _statistic(key: str) -> Callable[[Entry], str]:
    return lambda row: percentile(row.get("percentiles"), key, row.get(key))


def _error_table(errors: list[Entry]) -> Table | None:
    return build_table(
        "Errors, grouped",
        [
            _PHASE,
            ("Error", "text", lambda row: clean(row.get("error"), 200)),
            ("Endpoint", "code", lambda row: _endpoint(row, 90)),
            ("Count", "number", lambda row: count(row.get("count"))),
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
