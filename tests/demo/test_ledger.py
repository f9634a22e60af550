from pathlib import Path

import pytest

from asyncload_lib.demo import ledger as ledger_module
from asyncload_lib.demo.ledger import OUTCOMES, PATHS, Ledger

NOTHING = {"received": 0, "answered": 0, "failed": 0, "disconnected": 0, "duplicates": 0, "in_flight": 0}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Ledger, Ledger]:
    """Writer and reader of one file."""
    reader = Ledger.create(tmp_path / "ledger")
    return Ledger(tmp_path / "ledger"), reader


def test_reader_sees_every_outcome_by_path(pair: tuple[Ledger, Ledger]) -> None:
    writer, reader = pair
    for path in range(len(PATHS)):
        for outcome in OUTCOMES:
            writer.settle(writer.received(path, f"{path}-{outcome}"), outcome)
        writer.received(path, f"{path}-open")
    expected = {"received": 4, "answered": 1, "failed": 1, "disconnected": 1, "duplicates": 0, "in_flight": 1}
    assert reader.by_path() == dict.fromkeys(PATHS, expected)
    assert {reader.ids()[f"1-{outcome}"] for outcome in OUTCOMES} == set(OUTCOMES)
    assert reader.ids()["2-open"] == "received"


def test_a_second_request_with_the_same_id_is_a_duplicate(pair: tuple[Ledger, Ledger]) -> None:
    writer, reader = pair
    first, second = writer.received(0, "same"), writer.received(0, "same")
    writer.settle(first, "failed")
    writer.settle(second, "answered")
    assert reader.by_path()[PATHS[0]] == NOTHING | {"received": 2, "answered": 1, "failed": 1, "duplicates": 1}
    assert reader.ids() == {"same": "answered"}


def test_a_reset_empties_at_once_and_forgets_what_is_in_flight(pair: tuple[Ledger, Ledger]) -> None:
    writer, reader = pair
    open_since_before = writer.received(0, "old")
    reader.reset()
    assert (reader.by_path()[PATHS[0]], reader.ids()) == (NOTHING, {})
    writer.settle(open_since_before, "answered")
    assert (reader.by_path()[PATHS[0]], reader.ids()) == (NOTHING, {})
    writer.settle(writer.received(0, "old"), "answered")
    assert reader.by_path()[PATHS[0]] == NOTHING | {"received": 1, "answered": 1}
    assert reader.ids() == {"old": "answered"}


def test_ids_are_bounded_and_counts_are_not(pair: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "SLOTS", 8)
    writer, reader = pair
    for number in range(8):
        writer.settle(writer.received(0, f"id-{number}"), "answered")
    assert reader.ids_complete()
    for number in range(8, 20):
        writer.settle(writer.received(0, f"id-{number}"), "answered")
    assert not reader.ids_complete()
    assert set(reader.ids()) == {f"id-{number}" for number in range(12, 20)}
    assert reader.by_path()[PATHS[0]] == NOTHING | {"received": 20, "answered": 20}
    writer.received(0, "id-0")  # long forgotten: new
    writer.received(0, "id-19")  # still known
    assert reader.by_path()[PATHS[0]]["duplicates"] == 1


def test_long_and_odd_ids_are_told_apart(pair: tuple[Ledger, Ledger]) -> None:
    writer, reader = pair
    for request_id in ("x" * 300 + "a", "x" * 300 + "b", "é" * 31, ""):
        writer.received(0, request_id)
    assert reader.by_path()[PATHS[0]]["duplicates"] == 0
    assert len(reader.ids()) == 4
    assert "é" * 31 in reader.ids()
