"""Conversations as they are said to be, and the same again for the same seed."""

import itertools
import math
import statistics

import pytest

from asyncload_lib.users.traffic import ChatTraffic


def traffic(seed: int = 1, ordinal: int = 0, **options: float) -> ChatTraffic:
    figures = {"think_median_s": 2.0, "message_median": 80.0, "turns_mean": 4.0, **options}
    return ChatTraffic(seed, ordinal, session_prefix="p", **figures)


def test_seed_and_ordinal_settle_everything() -> None:
    def talk(one: ChatTraffic) -> list[tuple[tuple[str, str], float]]:
        return [(one.next_turn(), one.think_time_s()) for _ in range(50)]

    assert talk(traffic()) == talk(traffic())
    assert talk(traffic()) != talk(traffic(ordinal=1))
    assert talk(traffic()) != talk(traffic(seed=2))


def test_messages_and_thoughts_follow_their_distributions() -> None:
    one = traffic()
    lengths = [len(one.next_turn()[1]) for _ in range(5000)]
    assert statistics.median(lengths) == pytest.approx(80, rel=0.06)
    assert statistics.stdev(math.log(length) for length in lengths) == pytest.approx(0.8, rel=0.06)
    assert min(lengths) >= 1
    assert max(lengths) <= 4000
    thoughts = [one.think_time_s() for _ in range(5000)]
    assert statistics.median(thoughts) == pytest.approx(2.0, rel=0.06)
    assert statistics.stdev(math.log(thought) for thought in thoughts) == pytest.approx(0.6, rel=0.06)
    assert max(thoughts) <= 20
    assert traffic(think_median_s=0).think_time_s() == 0


@pytest.mark.parametrize(("mean", "expected"), [(4.0, 4.0), (1.0, 1.0), (0.5, 1.0), (20.0, 20.0)])
def test_sessions_have_their_turns_and_names_of_their_own(mean: float, expected: float) -> None:
    one = traffic(turns_mean=mean)
    names = [one.next_turn()[0] for _ in range(8000)]
    sessions = [(name, len(list(turns))) for name, turns in itertools.groupby(names)]
    assert len({name for name, _ in sessions}) == len(sessions)
    assert statistics.mean(turns for _, turns in sessions[:-1]) == pytest.approx(expected, rel=0.1)
    assert all(name.startswith("p-") for name, _ in sessions)
