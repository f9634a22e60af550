"""What a backend really received and answered, kept where a killed process cannot take it along.

A backend writes into a memory-mapped file of fixed size; the supervisor reads the same file. Counts are exact,
request ids are the latest `SLOTS`. One process writes, from one thread.
"""

import mmap
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

__all__ = ["COUNTS", "OUTCOMES", "PATHS", "SLOTS", "Entry", "Ledger"]

PATHS = ("/api/chat", "/api/chat/stream", "/api/chat/health")
OUTCOMES = ("answered", "failed", "disconnected")
COUNTS = ("received", *OUTCOMES, "duplicates")

SLOTS = 1 << 16
_SLOT_BYTES = 64
_ID_BYTES = _SLOT_BYTES - 2  # a slot is: state (index into COUNTS, plus one; 0 = empty), length, id

_HEADER_BYTES = 4096
_WANTED, _CURRENT, _NEXT_SLOT, _COUNTS_FROM = 0, 1, 2, 8  # int64 positions in the header


class Entry(NamedTuple):
    """One received request, to be settled once."""

    generation: int
    path: int
    slot: int


class Ledger:
    """Counts and request ids of one backend in the file `path`; made by `create`, opened by writer and reader.

    A reset begins a new generation: the reader asks for it, and shows an empty ledger until the writer has its next
    event. The writer then starts again from nothing, and ignores what requests of an older generation still report.
    """

    @classmethod
    def create(cls, path: Path) -> "Ledger":
        """Make an empty ledger file and open it."""
        with path.open("wb") as file:
            file.truncate(_HEADER_BYTES + SLOTS * _SLOT_BYTES)
        return cls(path)

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._header = memoryview(self._map)[:_HEADER_BYTES].cast("q")
        self._slot_of: dict[bytes, int] = {}

    def received(self, path: int, request_id: str) -> Entry:
        """Count one request to `PATHS[path]`."""
        self._follow_reset()
        self._add(path, 0)
        key = _stored_id(request_id)
        slot = self._slot_of.get(key)
        if slot is None:
            slot = self._take_slot(key)
        else:
            self._add(path, COUNTS.index("duplicates"))
        return Entry(self._header[_CURRENT], path, slot)

    def settle(self, entry: Entry, outcome: str) -> None:
        """Count how the request ended: one of `OUTCOMES`."""
        self._follow_reset()
        if entry.generation != self._header[_CURRENT]:
            return
        count = COUNTS.index(outcome)
        self._add(entry.path, count)
        self._map[_slot_at(entry.slot)] = count + 1

    def by_path(self) -> dict[str, dict[str, int]]:
        """Return the counts of every path, and `in_flight`: received and not settled."""
        table: dict[str, dict[str, int]] = {}
        fresh = self._header[_WANTED] == self._header[_CURRENT]
        for index, path in enumerate(PATHS):
            first = _COUNTS_FROM + index * len(COUNTS)
            values = self._header[first : first + len(COUNTS)] if fresh else [0] * len(COUNTS)
            counts = dict(zip(COUNTS, values, strict=True))
            counts["in_flight"] = counts["received"] - sum(counts[outcome] for outcome in OUTCOMES)
            table[path] = counts
        return table

    def ids(self) -> dict[str, str]:
        """Return the latest request ids, each with its last state: one of `COUNTS` except duplicates."""
        if self._header[_WANTED] != self._header[_CURRENT]:
            return {}
        return dict(self._stored())

    def ids_complete(self) -> bool:
        """Say whether `ids` holds every id since the last reset."""
        return self._header[_NEXT_SLOT] <= SLOTS

    def reset(self) -> None:
        """Ask for an empty ledger; for the reader."""
        self._header[_WANTED] += 1

    def _stored(self) -> Iterator[tuple[str, str]]:
        for slot in range(min(self._header[_NEXT_SLOT], SLOTS)):
            at = _slot_at(slot)
            state, length = self._map[at], self._map[at + 1]
            if state:
                yield self._map[at + 2 : at + 2 + length].decode(errors="replace"), COUNTS[state - 1]

    def _add(self, path: int, count: int) -> None:
        self._header[_COUNTS_FROM + path * len(COUNTS) + count] += 1

    def _take_slot(self, key: bytes) -> int:
        number = self._header[_NEXT_SLOT]
        slot = number % SLOTS
        at = _slot_at(slot)
        if number >= SLOTS:
            self._slot_of.pop(self._map[at + 2 : at + 2 + self._map[at + 1]], None)
        self._map[at : at + 2 + len(key)] = bytes((1, len(key))) + key
        self._header[_NEXT_SLOT] = number + 1
        self._slot_of[key] = slot
        return slot

    def _follow_reset(self) -> None:
        wanted = self._header[_WANTED]
        if wanted == self._header[_CURRENT]:
            return
        self._slot_of.clear()
        for position in range(_NEXT_SLOT, _COUNTS_FROM + len(PATHS) * len(COUNTS)):
            self._header[position] = 0
        self._header[_CURRENT] = wanted


def _slot_at(slot: int) -> int:
    return _HEADER_BYTES + slot * _SLOT_BYTES


def _stored_id(request_id: str) -> bytes:
    """Return the id as it is kept: itself, or the 62-byte head of its hexadecimal hash when it is longer."""
    raw = request_id.encode()
    return raw if len(raw) <= _ID_BYTES else blake2b(raw).hexdigest().encode()[:_ID_BYTES]
