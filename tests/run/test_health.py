"""What a generator process says of itself: of the time that is watched, and of nothing before."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from asyncload_lib.errors import AsyncloadError
from asyncload_lib.eventloop.native import native
from asyncload_lib.run import health as health_module
from asyncload_lib.run.health import CPU_WINDOW_S, ProcessHealth
from asyncload_lib.settings import Settings
from asyncload_lib.users.base import loop_thread
from tests.users.swarm import eventually


@pytest.fixture
def health() -> Iterator[ProcessHealth]:
    watched = ProcessHealth(loop_thread(), Settings())
    watched.start()
    yield watched
    watched.stop()


class Clock:
    """Stands for both clocks that CPU is read from; the tests say what passes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.used_s = 50.0
        monkeypatch.setattr("asyncload_lib.run.health._cpu_mark", lambda: (self.now_s, self.used_s))

    def tick(self, health: Any, seconds: int, share: float) -> None:
        """Let so many seconds pass in which this share of a core is used."""
        for _ in range(seconds):
            self.now_s, self.used_s = self.now_s + 1, self.used_s + share
            health._note_cpu()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, health: ProcessHealth) -> Clock:
    made = Clock(monkeypatch)
    health.reset()
    return made


def test_what_is_watched_for_less_than_the_window_is_judged_by_its_average(health: ProcessHealth, clock: Clock) -> None:
    clock.tick(health, 2, 0.95)
    assert health.report()["cpu_percent_max"] == pytest.approx(95)
    clock.tick(health, 10, 0.1)
    assert health.report()["cpu_percent_max"] < 95


def test_the_worst_window_counts(health: ProcessHealth, clock: Clock) -> None:
    for share in (0.1, 0.8, 0.2):
        clock.tick(health, CPU_WINDOW_S, share)
    assert health.report()["cpu_percent_max"] == pytest.approx(80)


def test_no_cpu_from_before_a_reset_counts_after_it(health: ProcessHealth, clock: Clock) -> None:
    clock.tick(health, 10, 1.0)
    health.reset()
    clock.tick(health, 2, 0.05)
    assert health.report()["cpu_percent_max"] == pytest.approx(5)
    clock.tick(health, 10, 0.05)
    assert health.report()["cpu_percent_max"] == pytest.approx(5)


def test_the_cpu_that_is_measured_is_that_of_this_process(health: ProcessHealth) -> None:
    begun_s = time.monotonic()
    health.reset()
    used_s = time.process_time()
    while time.process_time() - used_s < 1.2:
        assert time.monotonic() - begun_s < 30
    found = health.report()["cpu_percent_max"]
    assert 0.99 * 100 * 1.2 / (time.monotonic() - begun_s) < found < 200


def test_every_figure_is_there_however_short_it_was_watched(health: ProcessHealth) -> None:
    eventually(lambda: all(health.report()[key] is not None for key in ("loop_lag_p99", "hub_lag_p99")))
    assert health.report()["cpu_percent_max"] is not None
    assert health.report()["send_delay_p99"] is None


def test_a_loop_of_which_nothing_is_proven_is_not_said_to_be_free(
    health: ProcessHealth, monkeypatch: pytest.MonkeyPatch
) -> None:
    eventually(lambda: health.report()["event_loops"][0]["blocked"] is False)  # from its first beat on
    loop, _ = health.report()["event_loops"]
    monkeypatch.setattr(health.loop_monitor, "report", lambda: {**loop, "blocked": None, "note": "It ended early."})
    loop, _ = health.report()["event_loops"]
    assert (loop["blocked"], loop["note"]) == (None, "It ended early.")


def test_the_worst_phase_tells_the_send_delay(health: ProcessHealth) -> None:
    burst_us, others_us = [900_000.0] * 50, [1_000.0] * 100_000
    assert health.report([others_us, burst_us, []])["send_delay_p99"] == pytest.approx(0.9)
    assert health.report([[], []])["send_delay_p99"] is None


def test_a_loop_that_is_blocked_is_told_and_watched_when_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "LOOP_TIMEOUT_S", 0.2)
    thread = loop_thread()
    watched, release = ProcessHealth(thread, Settings()), native("threading", "Event")()
    thread.post(release.wait)
    with pytest.raises(AsyncloadError, match="is blocked"):
        watched.start()
    release.set()
    eventually(lambda: thread.call(asyncio.sleep(0, True), 5))
    watched.start()
    try:
        eventually(lambda: watched.report()["loop_lag_p99"] is not None)
    finally:
        watched.stop()


@pytest.mark.parametrize(("late", "of", "seen_s"), [(1, 2, 1.0), (1, 50, 1.0), (1, 100, 0.0), (2, 100, 1.0)])
def test_the_send_delay_that_99_percent_do_not_exceed(health: ProcessHealth, late: int, of: int, seen_s: float) -> None:
    delays_us = [0.0] * (of - late) + [1e6] * late
    assert health.report([delays_us])["send_delay_p99"] == seen_s
