"""What one phase of a scenario measured: the record that recorders fill, stores merge and documents are built from."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncload_lib.results.arrays import Floats
from asyncload_lib.results.buckets import HIGHEST_US
from asyncload_lib.results.histogram import Histogram, SparseHistogram
from asyncload_lib.results.series import Series
from asyncload_lib.results.text import OTHER

__all__ = ["ABANDONED", "MOST_NAMES", "Endpoint", "PhaseResult", "Tally", "is_baseline", "read_entry", "read_head"]

ABANDONED = "abandoned_age"
"""The metric as which results tell how long each operation had run when it was cut off."""

MOST_NAMES = 200
"""So many endpoints, requests with a metric, and errors does a phase tell apart: an id in a name would make it
thousands, each with a histogram of its own."""

_HEAD = ("users", "started", "wall_ns", "tail_ns")


@dataclass
class Tally:
    """Latencies of one kind: a histogram, and a count of those that cannot be binned (None, NaN, negative ...)."""

    histogram: Histogram = field(default_factory=Histogram)
    invalid: int = 0

    @property
    def count(self) -> int:
        """How many there were, binned or not."""
        return self.histogram.count + self.invalid

    def record(self, values_us: Floats) -> Floats:
        """Count latencies in us, shape (n,), and return the valid ones."""
        valid = values_us[(values_us >= 0.0) & (values_us <= HIGHEST_US)]
        self.histogram.record_many(valid)
        self.invalid += len(values_us) - len(valid)
        return valid

    def to_wire(self) -> dict[str, Any]:
        """Return plain msgpack types."""
        return {"invalid": self.invalid, **self.histogram.to_wire()}

    def merge(self, other: "Tally") -> None:
        """Add what another one holds."""
        self.histogram.merge(other.histogram)
        self.invalid += other.invalid

    def add_sparse(self, other: SparseHistogram, invalid: int) -> None:
        """Add what came over the wire."""
        self.histogram.add_sparse(other)
        self.invalid += invalid


@dataclass
class Endpoint:
    """Requests of one type and name; successful and failed ones never share a histogram."""

    ok: Tally = field(default_factory=Tally)
    failed: Tally = field(default_factory=Tally)


@dataclass
class PhaseResult:
    """Everything measured in a phase. Totals are sums over the endpoints, so the two cannot disagree.

    `name`: in a suite behind that of its scenario, as `chat/burst`. Keys: endpoints (type, name); errors (type, name,
    text); abandoned, the ages of operations that were cut off, (type, name); metrics (metric, request name).
    """

    name: str
    users: int = 0
    started: int = 0
    wall_ns: int = 0
    """From the phase's start to its last answer, or as long as what had none was waited for; of several workers the
    longest."""
    tail_ns: int = 0
    """How long after the stop of the users the last operation was cut off; of several workers the longest."""
    begun_ns: int | None = None
    """When the first worker began it, by the clock of whoever merged their reports; None before that."""
    endpoints: dict[tuple[str, str], Endpoint] = field(default_factory=dict)
    errors: dict[tuple[str, str, str], int] = field(default_factory=dict)
    abandoned: dict[tuple[str, str], Tally] = field(default_factory=dict)
    metrics: dict[tuple[str, str], Tally] = field(default_factory=dict)
    series: Series = field(default_factory=Series)

    @property
    def short_name(self) -> str:
        """Its name without that of its scenario."""
        return _short(self.name)

    @property
    def ok_count(self) -> int:
        """Requests that succeeded."""
        return sum(endpoint.ok.count for endpoint in self.endpoints.values())

    @property
    def failed_count(self) -> int:
        """Requests that failed."""
        return sum(endpoint.failed.count for endpoint in self.endpoints.values())

    @property
    def invalid_count(self) -> int:
        """Requests, successful or failed, whose latency could not be binned."""
        return sum(endpoint.ok.invalid + endpoint.failed.invalid for endpoint in self.endpoints.values())

    @property
    def unmeasured_count(self) -> int:
        """Those of them that succeeded."""
        return sum(endpoint.ok.invalid for endpoint in self.endpoints.values())

    @property
    def abandoned_count(self) -> int:
        """Operations that were cut off in flight."""
        return sum(tally.count for tally in self.abandoned.values())

    @property
    def overdue(self) -> dict[tuple[str, str], int]:
        """How many operations of each endpoint, when they were cut off, were older than any that succeeded."""
        return {key: found for key, age, longest_us in self._cut_off() if (found := age.count_above(longest_us))}

    @property
    def omitted_share(self) -> float | None:
        """Estimated share of requests that were never made, because users waited for overdue ones; None if unknown.

        A user that waits for an answer asks nothing else meanwhile, so one request without an answer hides all those
        that would have followed it (coordinated omission). The estimate is the time that users spent in overdue
        operations until they were stopped, as a share of all their time. Where no request of a name ever succeeded,
        it does not count: it may be a stream that is meant to be held open.
        """
        if not self.users or not self.wall_ns:
            return None
        tail_us = self.tail_ns / 1e3
        lost_us = sum(age.excess_above(longest_us, tail_us) for _, age, longest_us in self._cut_off() if longest_us)
        return min(lost_us * 1e3 / (self.users * self.wall_ns), 1.0)

    def _cut_off(self) -> Iterator[tuple[tuple[str, str], Histogram, float]]:
        """Yield (type, name), ages of what was cut off, and the longest that succeeded (us; 0 where none did).

        Where none of its type did, it is compared with all of its name: that a POST never ends says something, though
        only GETs of its name have ended. The names of what succeeded and of what was cut off are capped each for
        itself. Operations without a name of their own are compared with all endpoints, and those whose endpoint has
        none with those counted together.
        """
        longest_us = {key: max(endpoint.ok.histogram.max_us, 0.0) for key, endpoint in self.endpoints.items()}
        named_us: dict[str, float] = {}
        for (_, name), each_us in longest_us.items():
            named_us[name] = max(named_us.get(name, 0.0), each_us)
        unnamed_us, any_us = named_us.get(OTHER, 0.0), max(named_us.values(), default=0.0)
        for key, tally in self.abandoned.items():
            of_name_us = any_us if key == (OTHER, OTHER) else named_us.get(key[1], unnamed_us)
            yield key, tally.histogram, longest_us.get(key) or of_name_us

    @property
    def abandoned_max_age_s(self) -> float | None:
        """How long the oldest operation cut off in flight had run."""
        ages = (tally.histogram for tally in self.abandoned.values())
        return max((age.max_us / 1e6 for age in ages if age.count), default=None)

    @property
    def total_time_s(self) -> float | None:
        """Wall time from the phase's start (its intended start, where given) to the last answer; None without one.

        Where operations were cut off later, until then, or until the users were stopped.
        """
        return self.wall_ns / 1e9 if self.wall_ns and self.endpoints else None

    @property
    def ok(self) -> Histogram:
        """Latencies of all successful requests."""
        return _merged(endpoint.ok.histogram for endpoint in self.endpoints.values())

    @property
    def failed(self) -> Histogram:
        """Latencies of all failed requests."""
        return _merged(endpoint.failed.histogram for endpoint in self.endpoints.values())

    def metric(self, name: str) -> Histogram:
        """Return the values of a metric over all requests that have it."""
        return _merged(tally.histogram for (metric, _), tally in self.metrics.items() if metric == name)

    def endpoint_key(self, kind: str, name: str) -> tuple[str, str]:
        """Return under which key an endpoint is counted: its own, or that of all others beyond MOST_NAMES."""
        return _admitted((kind, name), self.endpoints)

    def abandoned_key(self, kind: str, name: str) -> tuple[str, str]:
        """Return the same of operations that were cut off."""
        return _admitted((kind, name), self.abandoned)

    def metric_key(self, metric: str, request: str) -> tuple[str, str]:
        """Return the same of a metric of a request: beyond MOST_NAMES it is still that metric, of "other" requests.

        Metrics that are too many themselves are "other" as well.
        """
        key, beyond = (metric, request), (metric, OTHER)
        if key in self.metrics or len(self.metrics) < MOST_NAMES:
            return key
        is_known = beyond in self.metrics or len(self.metrics) < 2 * MOST_NAMES
        return beyond if is_known else (OTHER, OTHER)

    def error_key(self, kind: str, name: str, text: str) -> tuple[str, str, str]:
        """Return the same of an error of an endpoint."""
        key = (kind, name, text)
        return key if key in self.errors or len(self.errors) < MOST_NAMES else (kind, name, OTHER)

    def head(self, age_ns: int) -> dict[str, int]:
        """Return the part of the wire form that is too small to be split.

        `age_ns`: how long ago the phase began here, which tells the reader when that was.
        """
        return {**{key: getattr(self, key) for key in _HEAD}, "age_ns": age_ns}

    def entries(self) -> Iterator[tuple[str, list[Any]]]:
        """Yield (section, entry) in plain msgpack types; each entry is whole, so any subset of them can be sent."""
        for (kind, name), endpoint in self.endpoints.items():
            yield "endpoints", [kind, name, endpoint.ok.to_wire(), endpoint.failed.to_wire()]
        for error, count in self.errors.items():
            yield "errors", [*error, count]
        for (kind, name), tally in self.abandoned.items():
            yield "abandoned", [kind, name, tally.to_wire()]
        for (metric, request), tally in self.metrics.items():
            yield "metrics", [metric, request, tally.to_wire()]
        for block in self.series.to_wire():
            yield "series", block

    def add_head(self, head: Mapping[str, int]) -> None:
        """Add what `read_head` has read of another process's `head`."""
        self.users += head["users"]
        self.started += head["started"]
        self.wall_ns = max(self.wall_ns, head["wall_ns"])
        self.tail_ns = max(self.tail_ns, head["tail_ns"])

    def add(self, section: str, values: Sequence[Any], later_s: int = 0) -> None:
        """Add what `read_entry` has read of one of another process's `entries`, which began the phase so much later."""
        if section == "endpoints":
            kind, request, ok, failed = values
            key = self.endpoint_key(kind, request)
            endpoint = self.endpoints.get(key)
            if endpoint is None:
                endpoint = self.endpoints[key] = Endpoint()
            endpoint.ok.add_sparse(*ok)
            endpoint.failed.add_sparse(*failed)
        elif section == "errors":
            kind, request, text, count = values
            error = self.error_key(*self.endpoint_key(kind, request), text)
            self.errors[error] = self.errors.get(error, 0) + count
        elif section == "abandoned":
            kind, request, tally = values
            self.abandoned.setdefault(self.abandoned_key(kind, request), Tally()).add_sparse(*tally)
        elif section == "metrics":
            metric, request, tally = values
            self.metrics.setdefault(self.metric_key(metric, request), Tally()).add_sparse(*tally)
        else:
            self.series.add_wire(values, later_s)


def is_baseline(name: str) -> bool:
    """Tell by its name, a short one too, whether a phase is that of the blocking service, or warms it up."""
    return _short(name).startswith("baseline")


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def read_head(wire: Mapping[str, Any]) -> dict[str, int]:
    """Return a head; raises ValueError, KeyError or TypeError on misfits."""
    return {key: int(wire[key]) for key in (*_HEAD, "age_ns")}


def read_entry(section: str, entry: Sequence[Any]) -> Sequence[Any]:
    """Return an entry with every histogram as (sparse histogram, invalid); raises ValueError, KeyError or TypeError."""
    if section == "endpoints":
        kind, request, ok, failed = entry
        return kind, request, _tally(ok), _tally(failed)
    if section == "errors":
        kind, request, text, count = entry
        return kind, request, text, int(count)
    if section in ("abandoned", "metrics"):
        kind, request, tally = entry
        return kind, request, _tally(tally)
    if section == "series":
        return entry
    raise ValueError(f"unknown section {section!r}")


def _tally(wire: Mapping[str, Any]) -> tuple[SparseHistogram, int]:
    return SparseHistogram.from_wire(wire), int(wire["invalid"])


def _admitted(key: tuple[str, str], known: Collection[tuple[str, str]]) -> tuple[str, str]:
    """Return the key, or beyond MOST_NAMES that of all others."""
    return key if key in known or len(known) < MOST_NAMES else (OTHER, OTHER)


def _merged(histograms: Iterator[Histogram]) -> Histogram:
    whole = Histogram()
    for histogram in histograms:
        whole.merge(histogram)
    return whole
