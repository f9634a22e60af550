"""What the workers of a run measured, put together from reports that may be lost, doubled or out of order.

A report is looked at when it comes, and read when it is needed: the first for a thousand workers must cost less than
they have to say. What cannot be read then is left out, and its worker named.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from asyncload_lib.results.histogram import Histogram
from asyncload_lib.results.phase import PhaseResult, is_baseline, read_entry, read_head
from asyncload_lib.results.series import check_block
from asyncload_lib.results.snapshots import WIRE_SCHEMA

__all__ = ["Store"]

_KEY_LENGTHS = {"endpoints": 2, "errors": 3, "abandoned": 2, "metrics": 2, "series": 2}
_VALUE_COUNTS = {"endpoints": 2, "errors": 1, "abandoned": 1, "metrics": 1}
"""Of an entry, so many values are its key, and so many follow it; a block of a series is checked by itself."""
_NS = 1_000_000_000
_UNDERWAY_NS = 3 * _NS
"""How late a report may come: a worker that seems to have begun so little after the others began with them."""
_MISFITS = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError)

EntryKey = tuple[Any, ...]
Entry = Sequence[Any]


class _Worker:
    """The newest a worker has sent: per phase a head, and entries by what identifies them, each with its seq."""

    def __init__(self) -> None:
        self.seq = 0
        self.heads: dict[str, tuple[int, Mapping[str, int]]] = {}
        self.begun_ns: dict[str, int] = {}
        """When each phase began there, by our clock: the report that was quickest to come tells it best."""
        self.entries: dict[str, dict[EntryKey, tuple[int, Entry]]] = {}

    def current(self, phase: str) -> Iterator[tuple[str, Entry]]:
        """Yield (section, entry) of all that counts."""
        entries = self.entries[phase]
        # After a series has widened, what is left of its narrow rows stands in the wide ones too.
        width_s = max((key[1] for key in entries if key[0] == "series"), default=0)
        for key, (_, entry) in entries.items():
            if key[0] != "series" or key[1] == width_s:
                yield key[0], entry


class Store:
    """The newest report of every worker of one run; merged when asked, so that no report can count twice."""

    def __init__(self, run_id: str, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.run_id = run_id
        self._clock_ns = clock_ns
        self.rejected: dict[str, str] = {}
        """Why the last part or entry refused of a worker was refused, by worker."""
        self._workers: dict[str, _Worker] = {}
        self._summed: tuple[dict[str, PhaseResult], dict[str, dict[str, Any]]] | None = None

    def accept(self, worker_id: str, part: Any) -> bool:
        """Take a part of a worker's snapshot; False if it is another run's, or malformed (then see `rejected`)."""
        try:
            if part["run_id"] != self.run_id:
                return False
            if part["schema"] != WIRE_SCHEMA:
                raise ValueError(f"it reports in schema {part['schema']}, not {WIRE_SCHEMA}")
            seq = int(part["seq"])
            phases = {name: _checked(phase) for name, phase in part["phases"].items()}
        except _MISFITS as error:
            self._reject(worker_id, error)
            return False
        self._summed = None
        worker = self._workers.setdefault(worker_id, _Worker())
        worker.seq = max(worker.seq, seq)
        for name, (head, entries) in phases.items():
            begun_ns = self._clock_ns() - head["age_ns"]
            worker.begun_ns[name] = min(begun_ns, worker.begun_ns.get(name, begun_ns))
            if name not in worker.heads or worker.heads[name][0] <= seq:
                worker.heads[name] = (seq, head)
            kept = worker.entries.setdefault(name, {})
            for key, entry in entries:
                if key not in kept or kept[key][0] <= seq:
                    kept[key] = (seq, entry)
        return True

    def merged(self) -> dict[str, PhaseResult]:
        """Return every phase over all workers, by name; not to be changed, for it may be returned again."""
        return dict(self._summary()[0])

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return by worker: seq of its newest report, operations, in_flight, requests_per_second and p95_latency (s).

        Over all phases but the baselines, whose requests are slow on purpose; in_flight, what was started and had
        neither ended nor been given up, over all.
        """
        return self._summary()[1]

    def _summary(self) -> tuple[dict[str, PhaseResult], dict[str, dict[str, Any]]]:
        """Return phases and workers; both are asked for one after the other, and reading a report is what costs."""
        if self._summed is None:
            whole: dict[str, PhaseResult] = {}
            spans_ns = self._spans_ns()
            totals = {
                worker_id: self._add_worker(worker_id, worker, whole, spans_ns)
                for worker_id, worker in self._workers.items()
            }
            self._summed = whole, totals
        return self._summed

    def _add_worker(
        self,
        worker_id: str,
        worker: _Worker,
        whole: dict[str, PhaseResult],
        spans_ns: Mapping[str, tuple[int, int]],
    ) -> dict[str, Any]:
        totals = _Totals()
        for name, (_, head) in worker.heads.items():
            phase = whole.setdefault(name, PhaseResult(name))
            phase.add_head(head)
            totals.begin(name, head)
            phase.begun_ns, wall_ns = spans_ns[name]
            later_ns = worker.begun_ns[name] - phase.begun_ns
            later_s = later_ns // _NS if _UNDERWAY_NS <= later_ns < wall_ns else 0
            for section, entry in worker.current(name):
                try:
                    values = read_entry(section, entry)
                    phase.add(section, values, later_s)
                except _MISFITS as error:
                    self._reject(worker_id, error)
                else:
                    totals.add(section, values)
        return {"seq": worker.seq, **totals.figures()}

    def _spans_ns(self) -> dict[str, tuple[int, int]]:
        """Return by phase when the first worker began it, and how long it was at most."""
        spans_ns: dict[str, tuple[int, int]] = {}
        for worker in self._workers.values():
            for name, (_, head) in worker.heads.items():
                begun_ns, wall_ns = spans_ns.get(name, (worker.begun_ns[name], 0))
                spans_ns[name] = min(begun_ns, worker.begun_ns[name]), max(wall_ns, head["wall_ns"])
        return spans_ns

    def _reject(self, worker_id: str, error: Exception) -> None:
        self.rejected[worker_id] = f"{type(error).__name__}: {error}"


def _checked(phase: Mapping[str, Any]) -> tuple[Mapping[str, int], list[tuple[EntryKey, Entry]]]:
    """Return head and entries by key; raises one of `_MISFITS` on what has not their form."""
    head = read_head(phase)
    found: list[tuple[EntryKey, Entry]] = []
    for section, length in _KEY_LENGTHS.items():
        for entry in phase.get(section, ()):
            key = (section, *entry[:length])
            hash(key)
            _check(section, entry)
            found.append((key, entry))
    return head, found


def _check(section: str, entry: Entry) -> None:
    """Raise one of `_MISFITS` unless the entry has its section's form, as far as that shows without unpacking it."""
    if section == "series":
        check_block(entry)
        return
    key, values = entry[: _KEY_LENGTHS[section]], entry[_KEY_LENGTHS[section] :]
    if len(key) != _KEY_LENGTHS[section] or not all(isinstance(text, str) for text in key):
        raise TypeError(f"{key} is no key of {_KEY_LENGTHS[section]} texts")
    if len(values) != _VALUE_COUNTS[section]:
        raise ValueError(f"{key} has {len(values)} values, not {_VALUE_COUNTS[section]}")
    for value in values:
        if section == "errors":
            int(value)
            continue
        if not isinstance(value["counts"], bytes):
            raise TypeError(f"packed counts are {type(value['counts']).__name__}, not bytes")
        int(value["invalid"])


class _Totals:
    """One worker's figures over its phases."""

    def __init__(self) -> None:
        self._latencies = Histogram()
        self._operations = self._in_flight = self._wall_ns = 0
        self._is_baseline = False

    def begin(self, phase: str, head: Mapping[str, int]) -> None:
        self._is_baseline = is_baseline(phase)
        self._in_flight += head["started"]
        self._wall_ns += 0 if self._is_baseline else head["wall_ns"]

    def add(self, section: str, values: Entry) -> None:
        if section == "endpoints":
            _, _, (ok, ok_invalid), (failed, failed_invalid) = values
            answers = ok.total + ok_invalid + failed.total + failed_invalid
            self._in_flight -= answers
            if not self._is_baseline:
                self._operations += answers
                self._latencies.add_sparse(ok)
        elif section == "abandoned":
            _, _, (ages, invalid) = values
            self._in_flight -= ages.total + invalid

    def figures(self) -> dict[str, Any]:
        p95_us, wall_s = self._latencies.quantile(0.95), self._wall_ns / 1e9
        return {
            "operations": self._operations,
            "in_flight": self._in_flight,
            "requests_per_second": self._operations / wall_s if self._operations and wall_s else None,
            "p95_latency": None if p95_us is None else p95_us / 1e6,
        }
