"""What becomes of a session's results when something goes wrong at its end, or when it has not ended."""

from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from asyncload_lib.errors import ExitCode
from asyncload_lib.run.session import Session
from asyncload_lib.settings import Settings
from asyncload_lib.target import Target


class Judged(Session):
    """A session of one scenario that passes, as far as its figures go."""

    def __init__(self) -> None:
        coordinator: Any = SimpleNamespace(end=lambda: None)
        super().__init__(Settings(), Target(), coordinator, "free", {}, lambda: None)

    def results(self, *_: Any, **__: Any) -> dict[str, Any]:
        row = {"name": "run p95 < 2 s", "verdict": "pass"}
        return {"metrics": [], "criteria": [row], "run": {"status": "complete"}}

    def _write(self, results: dict[str, Any]) -> None:
        pass


def test_a_run_that_is_killed_as_it_writes_its_report_is_no_success() -> None:
    class Killed(Judged):
        def _write(self, results: dict[str, Any]) -> None:
            raise gevent.GreenletExit

    session = Killed()
    with pytest.raises(gevent.GreenletExit):
        session.close()
    assert session.exit_code == ExitCode.REPORT_FAILED


def test_that_the_processes_cannot_say_how_they_did_costs_no_report() -> None:
    session = Judged()
    figures: dict[str, Any] = {}
    session.health_at_hand = lambda: [figures["no such figure"]]
    session.close()
    assert session.exit_code == ExitCode.PASS  # by `results` above; what is told makes a real one incomplete
    assert session.problems == ["how the processes did could not be told: KeyError: 'no such figure'"]


def test_health_is_taken_once_of_each_scenario() -> None:
    session = Judged()
    for scenario in ("chat", "redis"):
        session.health_at_hand = lambda scenario=scenario: [{"process": scenario}]
        session.take_health()
        session.take_health()
    session.close()
    assert session.health == [{"process": "chat"}, {"process": "redis"}]


def test_in_a_checkpoint_requests_under_way_are_no_fault() -> None:
    counts = {"successful_requests": 4, "failed_requests": 0, "abandoned_requests": 0, "started_requests": 5}
    metrics = [{"scenario": "chat", "phases": [{"phase": "burst", **counts}], "baseline": None}]
    judge = Judged()._status
    assert judge([], metrics, {"valid": True}, partial=False)[0] == "incomplete"
    status, reasons = judge([], metrics, {"valid": True}, partial=True)
    assert (status, len(reasons)) == ("partial", 1)
