"""The parts of coordination that need no process: silence, clocks, differences between workers, size of messages."""

from pathlib import Path
from typing import Any

import pytest

from asyncload_lib.results.recorder import Recorder
from asyncload_lib.run.introduction import _file_system, differences, files_in_memory
from asyncload_lib.run.members import Member, Silence
from asyncload_lib.run.messages import LIMIT_BYTES, fitted, size_of
from asyncload_lib.run.workers import misfits, worker_rows
from asyncload_lib.settings import Settings, from_sources

MS = 1_000_000


def test_silence_is_noticed_once_and_a_word_ends_it() -> None:
    silence = Silence()
    assert [silence.tick() for _ in range(Silence.LIMIT_TICKS + 3)].count(True) == 1
    silence.heard()
    assert not any(silence.tick() for _ in range(Silence.LIMIT_TICKS - 1))
    assert silence.tick()


def test_a_member_that_was_lost_and_comes_back_stays_named() -> None:
    member = Member("w", phase="chat/burst", waiting=17)
    member.lose("it fell silent", "chat/burst")
    assert (member.state, member.live, member.phase) == ("lost", False, None)
    first = member.lost_at
    member.hear()
    assert (member.state, member.live) == ("returned", True)
    member.lose("it fell silent", "chat/sustained")
    assert (member.lost_at, member.lost_in) == (first, "chat/sustained")


@pytest.mark.parametrize("offset_ns", [0, 7_200_000 * MS, -5 * MS])
def test_the_quickest_round_trip_tells_the_clock(offset_ns: int) -> None:
    member = Member("w")
    # (our clock when sent, way there, way back): the answer can only be as wrong as half of what the ways differ.
    for sent_ns, there_ns, back_ns in ((0, 9 * MS, 1 * MS), (10 * MS, 1 * MS, 1 * MS), (20 * MS, 1 * MS, 80 * MS)):
        member.measure_clock(sent_ns, sent_ns + there_ns + offset_ns, sent_ns + there_ns + back_ns)
    assert member.round_trip_ns == 2 * MS
    assert member.offset_ns == offset_ns


def test_an_old_round_trip_gives_way_to_a_slower_new_one() -> None:
    member = Member("w")
    member.measure_clock(0, 1 * MS, 2 * MS)
    hour_ns = 3_600_000 * MS
    member.measure_clock(hour_ns, hour_ns + 3 * MS + 200 * MS, hour_ns + 6 * MS)
    assert member.offset_ns == 200 * MS


def test_files_in_memory_are_told_of() -> None:
    kinds = [{"file_system": kind} for kind in ("ext4", "tmpfs", "")]
    assert files_in_memory(kinds) == "files lie in memory (tmpfs), where fsync costs nothing"
    assert files_in_memory([{"file_system": "ext4"}, {}]) == ""


def test_the_file_system_is_that_of_the_directory(tmp_path: Path) -> None:
    assert _file_system(Path("/proc")) == "proc"
    assert _file_system(tmp_path / "nowhere") == ""
    assert _file_system(None) != "proc"


def introduced(**cli: str) -> dict[str, Any]:
    settings = from_sources({f"asyncload_{key}": value for key, value in cli.items()}, {}) if cli else Settings()
    return {
        "version": "0.1.0",
        "locust": "2.47.0",
        "python": "3.11.7",
        "code": "5f2c",
        "locustfiles": "9a10",
        "settings": settings.redacted(),
        "fingerprint": settings.fingerprint(),
    }


def test_what_changes_a_workers_part_is_named_and_nothing_else() -> None:
    ours = introduced(redis_url="redis://:right@10.0.0.1/0")
    assert differences(ours, introduced(redis_url="redis://:right@10.0.0.1/0", out="/elsewhere")) == []
    (found,) = differences(ours, introduced(redis_url="redis://:right@10.0.0.2/0"))
    assert "redis.url" in found
    assert "right" not in found
    for harmless in ({}, {"out": "/elsewhere"}, {"chat_users": "7"}):
        (found,) = differences(ours, introduced(redis_url="redis://:wrong@10.0.0.1/0", **harmless))
        assert found == "one of its secrets differs from the master's"
    same = introduced(redis_url="redis://:right@10.0.0.1/0")
    assert len(differences(ours, {**same, "version": "0.0.9", "locust": "2.40.0"})) == 2


def test_a_worker_with_other_code_is_named() -> None:
    ours = introduced()
    assert differences(ours, {**ours, "python": "3.11.9"}) == []
    assert differences(ours, {**ours, "python": "3.12.1"}) == ["its Python is 3.12.1, the master's is 3.11.7"]
    assert differences(ours, {**ours, "code": "0000"}) == ["its code of asyncload 0.1.0 differs from the master's"]
    assert differences(ours, {**ours, "code": "0000", "version": "0.0.9"}) == [
        "its asyncload is 0.0.9, the master's is 0.1.0"  # which says it all
    ]
    assert differences(ours, {**ours, "locustfiles": None}) == ["its locustfile differs from the master's"]


def test_a_worker_that_does_not_fit_is_named_whenever_it_comes() -> None:
    """One that comes late is still starting as long as it is silent."""
    ours = introduced()
    other = {**ours, "code": "0000"}
    members = [Member("fits", ours), Member("silent"), Member("starting", is_late=True), Member("differs", other)]
    members.append(Member("late", other, is_late=True))
    differs = "its code of asyncload 0.1.0 differs from the master's"
    assert misfits(members, ours) == [
        "worker silent: it does not answer: is asyncload installed?",
        f"worker differs: {differs}",
        f"worker late, which joined late: {differs}",
    ]
    rows = worker_rows(members, {}, (), ours)
    silent = "it does not answer: is asyncload installed?"
    assert [row["note"] for row in rows] == [None, silent, "joined late", differs, f"joined late; {differs}"]


def test_twenty_endpoints_are_reported_in_one_message() -> None:
    now_ns = [0]
    recorder = Recorder("run", clock_ns=lambda: now_ns[0])
    recorder.begin("run")
    for second in range(400):
        now_ns[0] = second * 1_000_000_000
        recorder.tick(now_ns[0])
        for endpoint in range(20):
            for step in range(10):
                recorder.add("GET", f"/api/{endpoint}", 1.1 ** (10 + (second * 10 + step) % 60), None)
        parts = recorder.snapshot_parts(changes_only=True)
        assert len(parts) == 1
        assert size_of(["asyncload_part", parts[0], "x" * 60]) <= LIMIT_BYTES
    assert all(size_of(part) <= LIMIT_BYTES for part in recorder.snapshot_parts())


def test_what_a_process_says_of_itself_fits_into_one_message() -> None:
    loop: dict[str, Any] = {
        "name": "generator",
        "note": None,
        "culprits": [{"file": "f" * 300, "line": n, "excerpt": [[n, "x" * 300]] * 3} for n in range(50)],
        "stall_times": [{"t": n, "length": 0.1, "cause": "loop"} for n in range(200)],
        "series": [{"t": n, "max_lag": 0.1} for n in range(300)],
    }
    health = {"process": "host:1", "event_loops": [loop, {**loop, "name": "generator hub"}]}
    found = fitted(health)
    assert size_of(found) <= LIMIT_BYTES
    assert [len(each["culprits"]) for each in found["event_loops"]] != [0, 0]
    assert found["event_loops"][0]["culprits"][0] == loop["culprits"][0]
    assert "Not all" in found["event_loops"][0]["note"]
    assert len(loop["culprits"]) == 50
    small = {
        "process": "host:1",
        "event_loops": [{"name": "generator", "culprits": [], "stall_times": [], "series": []}],
    }
    assert fitted(small) == small
