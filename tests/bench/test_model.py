import math

import pytest

from bench.model import Column, Goal, Spread, Table
from bench.render import markdown

COLUMNS = [Column("rate", "requests/s"), Column("missing", "requests not reported")]


def table(goal: Goal, **rounds: list[float]) -> Table:
    """Return a table in which each contender had these figures in the goal's column, round by round."""
    made = Table("chat", "Chat", COLUMNS, goals=[goal])
    for one in zip(*rounds.values(), strict=True):
        made.rounds.append({name: {goal.column: value} for name, value in zip(rounds, one, strict=True)})
    return made


def verdict(made: Table) -> str:
    (outcome,) = made.outcomes()
    return outcome.verdict


@pytest.mark.parametrize(
    ("op", "rounds", "expected"),
    [
        (">=", [1, 2, 9], "met"),
        (">=", [1, 1, 9], "missed"),
        ("<=", [0, 2, 9], "met"),
        ("<=", [0, 3, 9], "missed"),
        ("==", [2, 2, 2], "met"),
        ("==", [2, 2, 9], "missed"),
        ("==", [1, 2, 2], "missed"),
    ],
)
def test_a_bound_is_judged_on_the_median_and_an_exact_figure_on_every_round(
    op: str, rounds: list[float], expected: str
) -> None:
    assert verdict(table(Goal("ours", "missing", op, 2), ours=rounds)) == expected


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    made = table(Goal("ours", "rate", ">=", 2, "theirs"), ours=[10, 200, 30], theirs=[5, 400, 10])
    (outcome,) = made.outcomes()

    assert outcome.observed == Spread(median=2.0, low=0.5, high=3.0, rounds=3)
    assert outcome.verdict == "met"


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_a_goal_is_not_measured_if_either_side_failed_in_one_round(name: str) -> None:
    made = table(Goal("ours", "rate", ">=", 2, "theirs"), ours=[10, 10], theirs=[5, 5])
    made.failures[name] = "the load ended too soon"

    (outcome,) = made.outcomes()

    assert (outcome.observed, outcome.verdict) == (None, "not measured")
    assert verdict(Table.from_json(made.to_json())) == "not measured"


def test_a_goal_without_a_figure_is_not_measured() -> None:
    goal = Goal("ours", "rate", ">=", 0)

    assert verdict(table(goal)) == verdict(table(goal, theirs=[1])) == verdict(table(goal, ours=[math.nan]))
    assert verdict(table(goal)) == "not measured"


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        (Goal("ours", "missing", "==", 0), "ours = 0 requests not reported"),
        (Goal("ours", "rate", ">=", 1000, moonshot=2000), "ours ≥ 1000 requests/s (moonshot 2000)"),
        (Goal("ours", "rate", ">=", 4, "theirs"), "ours ≥ 4x theirs"),
        (Goal("ours", "missing", "<=", 1, "theirs"), "ours ≤ 1x theirs, requests not reported"),
    ],
)
def test_a_goal_has_one_wording(goal: Goal, expected: str) -> None:
    made = table(goal, ours=[1])
    machine = {"cores": 2, "cpu": "any", "memory_gib": 1, "system": "Linux", "python": "3.11", "load_before": [0.0]}
    run = {
        "quick": False,
        "rows": {},
        "date": "2026-01-01",
        "duration_s": 60,
        "missing": {},
        "machine": {**machine, "versions": {}},
    }

    assert made.to_json()["outcomes"][0]["goal"] == expected
    assert f"| Chat: {expected} |" in markdown(run, [made])
