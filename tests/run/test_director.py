"""What a run's directing node says of its processes, and with which code it ends without a session."""

import signal
from types import SimpleNamespace

from asyncload_lib.run.director import Director
from asyncload_lib.run.members import Member
from asyncload_lib.verdict.generator import judge_generator

HEALTH = {"process": "a:1", "cpu_percent_max": 1.0, "loop_lag_p99": 0.0, "hub_lag_p99": 0.0, "event_loops": []}


def test_a_run_that_is_interrupted_before_its_session_is_no_success() -> None:
    director = Director.__new__(Director)
    director.environment = SimpleNamespace(process_exit_code=None)  # type: ignore[assignment]
    director.session, director._refusal_code = None, None
    director.is_headless = director._starts_by_itself = True
    director._signals = SimpleNamespace(came=signal.SIGTERM)  # type: ignore[assignment]
    director._settle_exit_code()
    assert director.environment.process_exit_code == 143


def test_a_worker_that_cannot_say_how_it_is_doing_is_named() -> None:
    director = Director.__new__(Director)
    members = {"w1": Member("w1", watched={"health": HEALTH}), "w2": Member("w2", watched={"health": None})}
    director.coordinator = SimpleNamespace(members=members)  # type: ignore[assignment]
    director._is_master = False
    limits = {"cpu_percent_max": 90.0, "loop_lag_p99": 0.1, "hub_lag_p99": 0.5, "send_delay_p99": 0.2}
    judged = judge_generator(director.health(), limits)
    assert not judged["valid"]
    assert judged["reasons"]
    assert all(reason.startswith("worker w2: ") for reason in judged["reasons"])
