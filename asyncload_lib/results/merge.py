"""What the workers of a run measured, put together from reports that may be lost, doubled or out of order."""

from collections.abc import Iterator, Mapping
from typing import Any

from asyncload_lib.results.phase import PhaseResult
from asyncload_lib.results.recorder import WIRE_SCHEMA

__all__ = ["Store"]

_KEY_LENGTHS = {"endpoints": 2, "errors": 3, "metrics": 2, "series": 2}

EntryKey = tuple[Any, ...]


class _Worker:
    """The newest a worker has sent: per phase a head, and entries by what identifies them, each with its seq."""

    def __init__(self) -> None:
        self.seq = 0
        self.heads: dict[str, tuple[int, Mapping[str, int]]] = {}
        self.entries: dict[str, dict[EntryKey, tuple[int, list[Any]]]] = {}

    def phases(self) -> Iterator[PhaseResult]:
        for name, (_, head) in self.heads.items():
            entries = self.entries[name]
            # After a series has widened, what is left of its narrow rows stands in the wide ones too.
            width_s = max((key[1] for key in entries if key[0] == "series"), default=0)
            current = [(k[0], entry) for k, (_, entry) in entries.items() if k[0] != "series" or k[1] == width_s]
            yield PhaseResult.from_entries(name, head, current)


class Store:
    """The newest report of every worker of one run; merged when asked, so that no report can count twice."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.rejected: dict[str, str] = {}
        """Why the last part refused of a worker was refused, by worker."""
        self._workers: dict[str, _Worker] = {}

    def accept(self, worker_id: str, part: Any) -> bool:
        """Take a part of a worker's snapshot; False if it is another run's, or malformed (then see `rejected`)."""
        try:
            if part["run_id"] != self.run_id:
                return False
            if part["schema"] != WIRE_SCHEMA:
                raise ValueError(f"it reports in schema {part['schema']}, not {WIRE_SCHEMA}")
            seq = int(part["seq"])
            phases = {name: _checked(name, phase) for name, phase in part["phases"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            self.rejected[worker_id] = f"{type(error).__name__}: {error}"
            return False
        worker = self._workers.setdefault(worker_id, _Worker())
        worker.seq = max(worker.seq, seq)
        for name, (head, entries) in phases.items():
            if name not in worker.heads or worker.heads[name][0] <= seq:
                worker.heads[name] = (seq, head)
            kept = worker.entries.setdefault(name, {})
            for key, entry in entries.items():
                if key not in kept or kept[key][0] <= seq:
                    kept[key] = (seq, entry)
        return True

    def merged(self) -> dict[str, PhaseResult]:
        """Return every phase over all workers, by name."""
        whole: dict[str, PhaseResult] = {}
        for worker in self._workers.values():
            for phase in worker.phases():
                whole.setdefault(phase.name, PhaseResult(phase.name)).merge(phase)
        return whole

    def workers(self) -> dict[str, dict[str, Any]]:
        """Return by worker: seq of its newest report, operations, in_flight, requests_per_second and p95_latency (s).

        Over all phases but the baselines, whose requests are slow on purpose; in_flight, what was started and had
        neither ended nor been given up, over all.
        """
        return {worker_id: _totals(worker) for worker_id, worker in self._workers.items()}


def _checked(name: str, phase: Mapping[str, Any]) -> tuple[Mapping[str, int], dict[EntryKey, list[Any]]]:
    """Return head and entries by key, once they have been decoded for trial: a bad report must fail here, not later."""
    head = {key: int(phase[key]) for key in ("users", "started", "wall_ns")}
    pairs = [(section, entry) for section in _KEY_LENGTHS for entry in phase.get(section, ())]
    PhaseResult.from_entries(name, head, pairs)
    return head, {(section, *entry[: _KEY_LENGTHS[section]]): entry for section, entry in pairs}


def _totals(worker: _Worker) -> dict[str, Any]:
    whole = PhaseResult("all")
    wall_s = 0.0
    in_flight = 0
    for phase in worker.phases():
        in_flight += phase.started - phase.ok_count - phase.failed_count - phase.abandoned_count
        if not phase.name.endswith("/baseline"):
            whole.merge(phase)
            wall_s += phase.total_time_s or 0.0
    operations = whole.ok_count + whole.failed_count
    p95_us = whole.ok.quantile(0.95)
    return {
        "seq": worker.seq,
        "operations": operations,
        "in_flight": in_flight,
        "requests_per_second": operations / wall_s if wall_s else None,
        "p95_latency": None if p95_us is None else p95_us / 1e6,
    }
