"""What a criterion can be about: every metric, its dimension, where it exists, and how it is read from results.

Values are in base units: seconds, shares of 1, factors, counts. Latencies are those of successful requests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asyncload_lib.results.figures import PERCENTILES, number
from asyncload_lib.verdict.stalls import STALL_METRICS

__all__ = [
    "DIMENSIONS",
    "FREE",
    "METRICS",
    "REQUEST_METRICS",
    "SCENARIO",
    "STATISTICS",
    "Metric",
    "Subject",
    "metric_of",
    "names",
    "percentile_of",
]

DIMENSIONS: Mapping[str, Mapping[str, float]] = {
    "time": {"us": 1e-6, "ms": 1e-3, "s": 1.0},
    "share": {"%": 0.01},
    "factor": {"x": 1.0, "": 1.0},
    "count": {"": 1.0},
}

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a criterion looks at; `scenario` may also be `target` or `generator`."""

    scenario: str
    phase: str | None = None
    endpoint: str | None = None

    @property
    def is_scenario(self) -> bool:
        """Whether it is a scenario, or a part of one."""
        return self.scenario not in ("target", "generator")

    @property
    def level(self) -> str:
        """Return which metrics exist here: target, generator, endpoint, phase or scenario."""
        if not self.is_scenario:
            return self.scenario
        return "endpoint" if self.endpoint else "phase" if self.phase else "scenario"

    def __str__(self) -> str:
        phase = f".{self.phase}" if self.phase else ""
        return self.scenario + phase + (f"[{self.endpoint}]" if self.endpoint else "")


@dataclass(frozen=True, slots=True)
class Metric:
    """A dimension, the levels of subjects that have the metric, how it is read from one entry, and its scenarios."""

    dimension: str
    levels: frozenset[str]
    read: Callable[[Entry], Any]
    only: frozenset[str] | None = None

    def exists(self, subject: Subject) -> bool:
        """Tell whether `subject` can have this metric at all."""
        return subject.level in self.levels and (self.only is None or subject.scenario in self.only)


REQUESTS = frozenset({"scenario", "phase", "endpoint"})
PHASES = frozenset({"scenario", "phase"})
SCENARIO = frozenset({"scenario"})
GENERATOR = frozenset({"generator"})
LOOPS = frozenset({"scenario", "target", "generator"})

FREE = "run"
"""The scenario of a run of users that somebody else wrote: they may keep metrics of any name."""

REQUEST_METRICS: Mapping[str, frozenset[str] | None] = {
    "service_time": None,
    "failed_service_time": None,
    "send_delay": None,
    "abandoned_age": None,
    "time_to_first_token": frozenset({"chat", FREE}),
    "inter_token_latency": frozenset({"chat", FREE}),
    "redis_set": frozenset({"redis", "mixed", FREE}),
    "redis_get": frozenset({"redis", "mixed", FREE}),
}
"""The metrics of a request that asyncload's own users keep, and in which scenarios; None: in any."""

STATISTICS = (*PERCENTILES, "avg", "min", "max")


def _key(name: str) -> Callable[[Entry], Any]:
    return lambda entry: entry.get(name)


def _extra(name: str) -> Callable[[Entry], Any]:
    return lambda entry: (entry.get("extra") or {}).get(name)


def percentile_of(entry: Entry, name: str) -> Entry:
    """Return what is known of a percentile of a phase, an endpoint or a metric of a request."""
    found: Entry = (entry.get("latency") or entry.get("percentiles") or {}).get(name) or {}
    return found


def _statistic(name: str, flat: str) -> Callable[[Entry], Any]:
    """Read a percentile where its details are, or else the key `flat`."""
    return lambda entry: percentile_of(entry, name).get("value", entry.get(flat))


def _error_rate(entry: Entry) -> Any:
    rate, failed, total = entry.get("error_rate"), entry.get("failed_requests"), entry.get("total_requests")
    return failed / total if rate is None and failed is not None and total else rate


def _scaled(value: object, factor: float) -> float | None:
    scaled = number(value)
    return None if scaled is None else scaled * factor


METRICS: Mapping[str, Metric] = {
    **{name: Metric("time", REQUESTS, _statistic(name, f"{name}_latency")) for name in PERCENTILES},
    **{name: Metric("time", REQUESTS, _key(f"{name}_response_time")) for name in ("avg", "min", "max")},
    "error_rate": Metric("share", REQUESTS, _error_rate),
    "throughput": Metric("count", REQUESTS, _key("requests_per_second")),
    "total_requests": Metric("count", REQUESTS, _key("total_requests")),
    "failed_requests": Metric("count", REQUESTS, _key("failed_requests")),
    "abandoned_requests": Metric("count", PHASES, _key("abandoned_requests")),
    "total_time": Metric("time", PHASES, _key("total_time")),
    "start_skew": Metric("time", PHASES, _key("start_skew")),
    "speedup": Metric("factor", SCENARIO, lambda entry: (entry.get("baseline") or {}).get("speedup")),
    "degradation": Metric("factor", SCENARIO, _extra("degradation"), only=frozenset({"chat"})),
    "redis_interference": Metric("factor", SCENARIO, _extra("redis_interference"), only=frozenset({"mixed"})),
    "file_interference": Metric("factor", SCENARIO, _extra("file_interference"), only=frozenset({"mixed"})),
    "reachable": Metric("share", SCENARIO, _extra("reachable"), only=frozenset({"vm_health"})),
    "beyond_slowest": Metric("time", SCENARIO, _extra("beyond_slowest"), only=frozenset({"vm_health"})),
    **{name: Metric(dimension, LOOPS, _key(name)) for name, dimension in STALL_METRICS.items()},
    "cpu": Metric("share", GENERATOR, lambda process: _scaled(process.get("cpu_percent_max"), 0.01)),
    "hub_lag": Metric("time", GENERATOR, _key("hub_lag_p99")),
    "loop_lag": Metric("time", GENERATOR, _key("loop_lag_p99")),
    "send_delay": Metric("time", GENERATOR, _key("send_delay_p99")),
}  # fmt: skip


def metric_of(name: str) -> Metric | None:
    """Return the metric of that name, a metric of a request such as `time_to_first_token.p95` too, else None."""
    if name in METRICS:
        return METRICS[name]
    request_metric, _, statistic = name.partition(".")
    if not request_metric or statistic not in (*STATISTICS, "count"):
        return None
    scenarios = REQUEST_METRICS.get(request_metric, frozenset({FREE}))
    if statistic == "count":
        return Metric("count", REQUESTS, _key("count"), only=scenarios)
    return Metric("time", REQUESTS, _statistic(statistic, statistic), only=scenarios)


def names(subject: Subject, statistic: str) -> list[str]:
    """Return the metrics that `subject` can have, those of a request with `statistic` (p95, if that is none)."""
    statistic = statistic if statistic in (*STATISTICS, "count") else "p95"
    there_are = {**METRICS, **{f"{name}.{statistic}": metric_of(f"{name}.{statistic}") for name in REQUEST_METRICS}}
    return [name for name, metric in there_are.items() if metric is not None and metric.exists(subject)]
