"""What a run's directing node says of its processes."""

from types import SimpleNamespace

from asyncload_lib.members import Member
from asyncload_lib.plugin import Plugin
from asyncload_lib.verdict.generator import judge_generator

HEALTH = {"process": "a:1", "cpu_percent_max": 1.0, "loop_lag_p99": 0.0, "hub_lag_p99": 0.0, "event_loops": []}


def test_a_worker_that_cannot_say_how_it_is_doing_is_named() -> None:
    plugin = Plugin.__new__(Plugin)
    members = {"w1": Member("w1", final={"health": HEALTH}), "w2": Member("w2", final={"health": None})}
    plugin.coordinator = SimpleNamespace(members=members)  # type: ignore[assignment]
    plugin._own_health = None
    limits = {"cpu_percent_max": 90.0, "loop_lag_p99": 0.1, "hub_lag_p99": 0.5, "send_delay_p99": 0.2}
    judged = judge_generator(plugin.health(), limits)
    assert not judged["valid"]
    assert judged["reasons"]
    assert all(reason.startswith("worker w2: ") for reason in judged["reasons"])
