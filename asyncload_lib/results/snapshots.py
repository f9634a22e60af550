"""What a recorder reports while it goes on recording: everything so far, in parts that each fit into a message."""

from collections.abc import Iterator, Mapping
from typing import Any

from asyncload_lib.results.phase import PhaseResult

__all__ = ["WIRE_SCHEMA", "Snapshots"]

WIRE_SCHEMA = 5

Entry = tuple[str, list[Any]]
"""A section of a phase, and what stands in it."""


class Snapshots:
    """Makes the snapshots of one run, and knows what of them can no longer change."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._seq = 0
        self._frozen: dict[str, list[Entry]] = {}  # the entries of phases that are over
        self._said_phases: set[str] = set()  # those of them that were in a snapshot
        self._said_blocks: set[tuple[Any, ...]] = set()  # blocks of the series of the current phase that were

    def reopen(self, phase: str) -> None:
        """Note that a phase changes from now on."""
        self._frozen.pop(phase, None)
        self._said_phases.discard(phase)

    def parts(
        self,
        phases: Mapping[str, PhaseResult],
        ages_ns: Mapping[str, int],
        current: PhaseResult | None,
        max_bytes: int,
        *,
        changes_only: bool,
    ) -> Iterator[dict[str, Any]]:
        """Yield a snapshot of `phases`, of which `current` goes on; see `Recorder.snapshot_parts`.

        `ages_ns`: how long ago each of them began.
        """
        self._seq += 1
        part, used = self._empty_part()
        for name, phase in phases.items():
            if changes_only and phase is not current and name in self._said_phases:
                continue
            entries = self._open_entries(phase, changes_only) if phase is current else self._closed_entries(phase)
            for entry in (None, *entries):  # a phase without entries has a head all the same
                head = {} if name in part["phases"] else {name: phase.head(ages_ns[name])}
                size = _packed_bytes([head, entry])
                if used + size > max_bytes and part["phases"]:
                    yield part
                    part, used = self._empty_part()
                    head = {name: phase.head(ages_ns[name])}
                    size = _packed_bytes([head, entry])
                part["phases"].update(head)
                if entry is not None:
                    section, values = entry
                    part["phases"][name].setdefault(section, []).append(values)
                used += size
        yield part

    def _open_entries(self, phase: PhaseResult, changes_only: bool) -> list[Entry]:
        """Return the entries of the phase that goes on: of its series, only the last block still changes."""
        entries = list(phase.entries())
        blocks = [_block(phase, values) for section, values in entries if section == "series"]
        if changes_only:
            said = self._said_blocks.intersection(blocks)
            entries = [each for each in entries if each[0] != "series" or _block(phase, each[1]) not in said]
        self._said_blocks.update(blocks[:-1])
        return entries

    def _closed_entries(self, phase: PhaseResult) -> list[Entry]:
        if phase.name not in self._frozen:
            self._frozen[phase.name] = list(phase.entries())
        self._said_phases.add(phase.name)
        return self._frozen[phase.name]

    def _empty_part(self) -> tuple[dict[str, Any], int]:
        part: dict[str, Any] = {"schema": WIRE_SCHEMA, "run_id": self._run_id, "seq": self._seq, "phases": {}}
        return part, _packed_bytes(part)


def _block(phase: PhaseResult, values: list[Any]) -> tuple[Any, ...]:
    """Return what identifies a block of a series: its width and its first row."""
    return phase.name, *values[:2]


def _packed_bytes(value: Any) -> int:
    """Return at least as many bytes as msgpack needs for `value`."""
    if isinstance(value, bytes):
        return 5 + len(value)
    if isinstance(value, str):
        return 5 + len(value.encode())
    if isinstance(value, dict):
        return 5 + sum(_packed_bytes(key) + _packed_bytes(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return 5 + sum(map(_packed_bytes, value))
    return 9
