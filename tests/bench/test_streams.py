import json
from array import array
from pathlib import Path

import pytest

from bench import streams
from bench.contest import Bench
from bench.peers import Peers
from bench.rows.sse import LOCUSTFILES, _read
from bench.streams import EVENTS, Delays, Reader, save
from bench.targets import LedgerServer


@pytest.fixture(autouse=True)
def _nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_NOTED", array("q"))
    monkeypatch.setattr(streams, "_LOST", array("q"))


def asked(reader: Reader) -> int:
    """Ask for the next stream, and return how many events it will have."""
    return int(reader.path().partition("n=")[2].partition("&")[0])


def read(reader: Reader, events: int) -> None:
    for number in range(events):
        reader.note(json.dumps({"sent_ns": 1_000_000 * number}), 1_000_000 * (number + 5))


def delays(path: Path) -> Delays:
    save(str(path))
    return Delays(path, 0, 10**12)


def test_the_stream_that_the_end_cuts_off_is_excused(tmp_path: Path) -> None:
    first, second = Reader(), Reader()
    for reader in (first, second):
        read(reader, asked(reader))
        assert asked(reader) == EVENTS
    read(first, EVENTS - 1)

    found = delays(tmp_path / "delays.npz")

    assert found.first_ms.tolist() == [5.0, 5.0, 5.0]
    assert len(found.first_held_ms) == 3


@pytest.mark.parametrize("missing", [1, EVENTS])
def test_a_single_stream_that_ended_before_its_last_event_was_read_is_an_error(tmp_path: Path, missing: int) -> None:
    for _ in range(50):
        reader = Reader()
        read(reader, asked(reader))
        read(reader, asked(reader))
        asked(reader)
    reader = Reader()
    read(reader, asked(reader))
    read(reader, asked(reader) - missing)
    asked(reader)

    with pytest.raises(ValueError, match=f"1 streams ended before {missing} of their events were read"):
        delays(tmp_path / "delays.npz")


def test_a_generator_reads_its_streams_whole(tmp_path: Path) -> None:
    with LedgerServer(tmp_path / "streams") as server:
        figures = _read(Bench(tmp_path, Peers(), quick=True), server, LOCUSTFILES["asyncload"], 5, 1000, None)

    assert figures["rate"] > 0
    assert 0 < figures["first_p50"] <= figures["first_p99"] <= figures["held_p99"]
