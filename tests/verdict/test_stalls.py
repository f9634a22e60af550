"""Which stalls count, of which loops: only what code of the watched process can be blamed for."""

from typing import Any

import pytest

from asyncload_lib.eventloop.findings import MAX_CULPRITS, Findings
from asyncload_lib.eventloop.places import Spot
from asyncload_lib.verdict.stalls import most_of_queues, observe_loops

QUIET: dict[str, Any] = {"stalls": 0, "blocked_s": 0.0, "max_stall": 0.0}


def stalled(length_s: float) -> dict[str, Any]:
    return {"stalls": 1, "blocked_s": length_s, "max_stall": length_s}


def loop(name: str = "target", **changes: Any) -> dict[str, Any]:
    causes = {cause: changes.pop(cause, QUIET) for cause in ("loop", "gil", "gc", "machine")}
    longest = max(cause["max_stall"] for cause in causes.values())
    watched = {
        "name": name, "witness": "outside" if "outside" in name else "inside",
        "watched_s": 10.0, "blocked": longest > 0.01, "max_stall": longest,
        "stalls": sum(cause["stalls"] for cause in causes.values()),
        "blocked_s": sum(cause["blocked_s"] for cause in causes.values()),
        "lag": {"p50": 0.0001, "p99": 0.002, "max": longest}, "by_cause": causes, "culprits": [],
    }  # fmt: skip
    return watched | changes


def holder(length_s: float, function: str | None = "crunch") -> dict[str, Any]:
    return {
        "file": "a.py", "line": 7, "function": function, "cause": "gil", "count": 2, "total_s": 2 * length_s,
        "longest_s": length_s,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("watched", "max_stall", "stalls", "blocked_time"),
    [
        (loop(), 0.0, 0.0, 0.0),
        (loop(loop=stalled(0.2)), 0.2, 1.0, 0.2),
        (loop(gc=stalled(0.2), machine=stalled(0.3)), 0.0, 0.0, 0.0),
        (loop(gil=stalled(0.2)), 0.0, 0.0, 0.0),
        (loop(gil=stalled(0.2), culprits=[holder(0.2, None)]), 0.0, 0.0, 0.0),
        (loop(gil=stalled(0.2), culprits=[holder(0.1)]), 0.1, 2.0, 0.2),
        (loop(loop=stalled(0.05), gil=stalled(0.2), culprits=[holder(0.1)]), 0.1, 3.0, 0.25),
        # a witness that knows no causes
        (loop(by_cause={}, max_stall=0.04, stalls=3, blocked_s=0.1), 0.04, 3.0, 0.1),
        (loop(by_cause={}, max_stall=None, stalls=0, blocked_s=None), 0.0, 0.0, 0.0),
    ],
)
def test_only_what_code_is_to_blame_for_counts(
    watched: dict[str, Any], max_stall: float, stalls: float, blocked_time: float
) -> None:
    assert observe_loops([watched], "max_stall", "target")[0] == max_stall
    assert observe_loops([watched], "stalls", "target")[0] == stalls
    assert observe_loops([watched], "blocked_time", "target")[0] == pytest.approx(blocked_time)


def test_no_stall_that_counts_is_lost_where_there_are_more_culprits_than_the_table_has_room_for() -> None:
    findings = Findings(0, 0.01, 0.003)
    spots = [Spot((compile("pass", f"{number}.py", "exec"), 0)) for number in range(80)]
    for number, spot in enumerate(spots):
        findings.stall(10**9, 0.02, "gc", spot, f"task {number}")
    for length_s in (0.9, 0.03):
        findings.stall(10**9, length_s, "gil", spots[-1], "holder")
    findings.beats = 1
    report = findings.report("target", 10**10)

    assert report["blocked"] is True
    assert observe_loops([report], "max_stall", "chat")[0] == 0.9
    assert observe_loops([report], "stalls", "chat")[0] == 2
    assert observe_loops([report], "blocked_time", "chat")[0] == pytest.approx(0.93)
    assert len(report["culprits"]) == MAX_CULPRITS + 2
    assert sum(culprit["count"] for culprit in report["culprits"]) == 82


def test_worst_loop_counts_and_names_the_culprit() -> None:
    named = holder(0.3) | {"cause": "loop"}
    loops = [loop("target", loop=stalled(0.1)), loop("target", loop=stalled(0.3), culprits=[named])]
    assert observe_loops(loops, "max_stall", "chat") == (0.3, "target: a.py:7 in crunch")
    assert observe_loops(loops, "stalls", "chat")[0] == 1


@pytest.mark.parametrize(
    ("name", "subject", "words"),
    [
        ("target", "chat", "worst loop: the target's"),
        ("generator", "redis", "worst loop: the generator's"),
        ("generator hub", "generator", "worst loop: the generator's hub"),
    ],
)
def test_a_loop_without_a_culprit_is_told_in_words(name: str, subject: str, words: str) -> None:
    assert observe_loops([loop(name, loop=stalled(0.3))], "max_stall", subject) == (0.3, words)
    assert observe_loops([loop(name)], "max_stall", subject) == (0.0, "")


def test_witness_inside_decides_over_the_one_outside() -> None:
    """From outside, a queue and a busy machine look like a blocked loop."""
    outside = loop("target (outside)", by_cause={}, max_stall=0.3, stalls=5, blocked_s=0.9)
    for subject in ("chat", "target"):
        assert observe_loops([outside, loop("target")], "max_stall", subject)[0] == 0.0
        assert observe_loops([outside, loop("target", loop=stalled(0.1))], "max_stall", subject)[0] == 0.1
        assert observe_loops([outside], "max_stall", subject) == (0.3, "worst loop: target (outside)")


def test_the_culprit_of_most_time_is_named_beside_that_of_the_longest_stall() -> None:
    once = holder(0.3, "load") | {"cause": "loop", "count": 1, "total_s": 0.3}
    often = holder(0.02) | {"cause": "loop", "count": 140, "total_s": 2.14}
    watched = loop(loop={"stalls": 141, "blocked_s": 2.44, "max_stall": 0.3}, culprits=[often, once])
    remark = observe_loops([watched], "max_stall", "chat")[1]
    assert remark == "target: a.py:7 in load; a.py:7 in crunch for 2.14 s in all, 140 times"


def test_a_place_is_named_once_whichever_threads_came_by_there() -> None:
    """The longest stall there was in one thread, most of the time was spent there in another."""
    once = holder(0.3) | {"task": "uvloop_0", "count": 1, "total_s": 0.3}
    often = holder(0.02) | {"task": "uvloop_2", "count": 140, "total_s": 2.14}
    watched = loop(gil=stalled(0.3), culprits=[often, once])
    assert observe_loops([watched], "max_stall", "chat")[1] == "target: a.py:7 in crunch"
    elsewhere = holder(0.1, "load") | {"total_s": 2.3, "count": 23}  # more than either, less than both
    watched = loop(gil=stalled(0.3), culprits=[often, once, elsewhere])
    assert observe_loops([watched], "max_stall", "chat")[1] == "target: a.py:7 in crunch"


def queue(proven_s: float | None = 0.001) -> dict[str, Any]:
    late = {"by_cause": {}, "max_stall": 0.04, "stalls": 2, "blocked_s": 0.06}
    return loop("target (outside)", blocked=None, proven_stall=proven_s, **late)


def test_of_a_queue_only_what_is_proven_counts_and_what_it_may_be_is_known() -> None:
    for metric, proven, most in (("max_stall", 0.001, 0.04), ("stalls", 0.0, 2), ("blocked_time", 0.0, 0.06)):
        assert observe_loops([queue()], metric, "target")[0] == proven
        found, why = most_of_queues([queue()], metric, "target")
        assert found == most
        assert "late by 40 ms" in why
    assert observe_loops([queue()], "lag_p99", "target")[0] == 0.002
    assert most_of_queues([queue()], "lag_p99", "target") == (None, "")
    assert most_of_queues([queue(), loop("target")], "max_stall", "target") == (None, "")  # the one inside knows
    assert observe_loops([queue(None)], "max_stall", "target")[0] is None


def test_from_outside_a_blocked_loop_was_so_for_as_long_as_is_proven() -> None:
    """How late an answer was is the sum of all that stood before it."""
    blocked = queue(0.03) | {"blocked": True, "max_stall": 1.367}
    value, remark = observe_loops([blocked], "max_stall", "chat")
    assert (value, remark) == (0.03, "target (outside), at least this long: an answer was late by 1.37 s")
    assert observe_loops([blocked], "stalls", "chat")[0] == 1
    assert observe_loops([blocked], "blocked_time", "chat")[0] == 0.03
    assert most_of_queues([blocked], "max_stall", "chat")[0] == 1.367


def test_what_may_fall_between_two_requests_from_outside_is_told() -> None:
    quiet = queue(0.0) | {"blocked": False, "max_stall": 0.0, "period_s": 0.02, "limit_s": 0.01}
    told = observe_loops([quiet], "max_stall", "chat")
    assert told == (0.0, "target (outside): none seen; one shorter than 30 ms can fall between two check requests")


def test_scenario_means_the_target_and_the_loops_that_run_its_users() -> None:
    generator, hub = loop("generator", loop=stalled(0.05)), loop("generator hub", loop=stalled(0.5))
    loops = [generator, hub, loop("target", loop=stalled(0.02))]
    assert observe_loops(loops, "max_stall", "chat")[0] == 0.05
    assert observe_loops(loops, "max_stall", "target")[0] == 0.02
    assert observe_loops(loops, "max_stall", "generator")[0] == 0.5
    assert observe_loops([generator, hub], "max_stall", "chat")[0] == 0.05
    assert observe_loops([hub], "max_stall", "chat")[0] is None


@pytest.mark.parametrize("unwatched", [{"watched_s": 0.0}, {"watched_s": None}, {"blocked": None}])
def test_what_was_not_watched_proves_nothing(unwatched: dict[str, Any]) -> None:
    generator = loop("generator", loop=stalled(0.5))
    # What could not be judged is no data, however well another loop did.
    for subject in ("redis", "generator"):
        unjudged = loop("generator", note="The watchdog ended early.", **unwatched)
        for others in ([generator], [loop("target"), generator]):
            found, why = observe_loops([*others, unjudged], "max_stall", subject)
            assert found is None
            assert why == "the generator's loop could not be judged. The watchdog ended early."
        assert observe_loops([loop("target"), unjudged], "max_stall", "target")[0] == 0.0
    value, remark = observe_loops([loop("target", **unwatched), generator], "max_stall", "chat")
    assert value is None
    assert "could not be judged" in remark
    value, why = observe_loops([loop("target", **unwatched), generator], "max_stall", "target")
    assert value is None
    assert "could not be judged" in why
    assert observe_loops([], "max_stall", "chat")[0] is None
    assert observe_loops([generator], "max_stall", "target") == (None, "no event loop of target was watched")


@pytest.mark.parametrize("unwatched", [{"watched_s": 0.0}, {"watched_s": None}, {"blocked": None}])
def test_no_worker_passes_for_another_that_was_not_judged(unwatched: dict[str, Any]) -> None:
    outside = loop("target (outside)", by_cause={}, max_stall=0.0, stalls=0, blocked_s=0.0)
    loops = [loop("target"), loop("target", note="worker 7 did not answer", **unwatched), outside]
    for subject in ("chat", "target"):
        value, why = observe_loops(loops, "max_stall", subject)
        assert value is None
        assert "worker 7 did not answer" in why


def test_watched_loop_without_a_figure_is_no_data() -> None:
    torn = loop("target", by_cause={}, max_stall=None, stalls=4)
    assert observe_loops([torn, loop("target")], "max_stall", "chat") == (None, "max_stall was not measured")
    assert observe_loops([loop(lag={})], "lag_p99", "chat")[0] is None
    assert observe_loops([loop()], "lag_p99", "chat")[0] == 0.002
