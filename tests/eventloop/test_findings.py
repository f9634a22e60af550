import gc
import json
import random
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import asyncload_lib.results
from asyncload_lib.eventloop.findings import MAX_BUCKETS, Findings
from asyncload_lib.eventloop.places import Spot

MS = 1_000_000
PERIOD_S = 0.002


def spot_at(line: int) -> Spot:
    """Return a call in that line of this file."""
    code = compile("\n" * (line - 1) + "call()", __file__, "eval")
    return Spot((code, len(code.co_code) - 2))


HERE = spot_at(1)


def findings() -> Findings:
    return Findings(0, 0.010, PERIOD_S)


def test_quantiles_of_the_lag_are_those_of_numpy() -> None:
    random.seed(7)
    lags_us = [int(random.lognormvariate(5.5, 1.0)) for _ in range(20_000)]
    # a beat that is over a period late stands for those that it displaced
    displaced = [lag - step for lag in lags_us for step in range(0, lag + 1, 2000)]
    found = findings()
    for number, lag in enumerate(lags_us):
        found.lag(lag * 1000, number * MS)

    lag = found.report("x", 1)["lag"]

    assert lag["p50"] == pytest.approx(float(np.quantile(displaced, 0.5)) / 1e6, rel=0.07)
    assert lag["p99"] == pytest.approx(float(np.quantile(displaced, 0.99)) / 1e6, rel=0.04)
    assert lag["max"] == max(lags_us) / 1e6


def test_a_long_stall_counts_for_all_the_beats_that_it_displaced() -> None:
    found = findings()
    for number in range(100):
        found.lag(0, number * 2 * MS)
    found.lag(1000 * MS, 1200 * MS)

    assert found.report("x", 1)["lag"]["p50"] == pytest.approx(0.4, rel=0.1)  # not the 0 of 100 beats in 101


def test_a_beat_amid_the_report_of_another_thread_does_not_break_it() -> None:
    """A collection that begins in the report calls `gc.callbacks`, and with that the loop's thread may get the GIL."""
    found = findings()
    for lag_ms in range(1, 200):
        found.lag(lag_ms * MS, lag_ms * MS)
    beats: list[int] = []

    def beat(phase: str, info: dict[str, int]) -> None:
        beats.append(int(1000 * MS * 1.04 ** len(beats)))  # of a length that was not there yet
        found.lag(beats[-1], beats[-1])

    pairs = [(number, number) for number in range(5000)]  # CPython has none left then that it need not make
    before = gc.get_threshold()
    gc.callbacks.append(beat)
    gc.set_threshold(1)
    try:
        lag = found.report("x", 1)["lag"]
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(beat)

    assert 0 < len(beats) < len(pairs)
    assert 0.05 <= lag["p50"] <= lag["p99"] <= lag["max"]


def test_a_series_that_grows_amid_the_report_is_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings()
    for second in range(MAX_BUCKETS):
        found.lag(second * MS, second * 1000 * MS)
    quantile = found._quantile

    def interrupted(q: float) -> float | None:
        found.lag(0, MAX_BUCKETS * 1000 * MS)  # the loop's thread beats, and the series is halved
        return quantile(q)

    monkeypatch.setattr(found, "_quantile", interrupted)
    series = found.report("x", 1)["series"]

    assert found._width_ns == 2000 * MS
    assert [row["t"] for row in series] == list(range(MAX_BUCKETS))
    assert [row["max_lag"] for row in series] == [second / 1000 for second in range(MAX_BUCKETS)]


def test_a_late_beat_is_known_to_whom_asks_across_a_new_beginning() -> None:
    found = findings()
    found.lag(20 * MS, 100 * MS)
    fresh = found.anew(101 * MS)

    assert fresh.report("x", 102 * MS)["lag"]["max"] == 0
    assert fresh.own_share(90 * MS, 101 * MS) == 10 * MS


def test_the_series_keeps_the_worst_of_each_second_and_widens_when_it_is_long() -> None:
    found = findings()
    found.lag(5 * MS, 500 * MS)
    found.lag(3 * MS, 900 * MS)
    found.lag(7 * MS, 2500 * MS)
    assert found.report("x", 1)["series"] == [
        {"t": 0.0, "max_lag": 0.005},
        {"t": 1.0, "max_lag": 0.0},
        {"t": 2.0, "max_lag": 0.007},
    ]

    found.lag(9 * MS, 700_000 * MS)

    series = found.report("x", 1)["series"]
    assert len(series) <= 300
    assert series[0] == {"t": 0.0, "max_lag": 0.007}
    assert series[-1]["max_lag"] == 0.009
    assert series[-1]["t"] == 700.0


def test_only_the_loop_and_a_named_holder_of_the_gil_block() -> None:
    found = findings()
    found.lag(0, 1)
    for cause in ("gc", "machine"):
        found.stall(1000 * MS, 0.5, cause, HERE, "")
    found.stall(1000 * MS, 0.4, "gil", None, "")
    assert found.report("x", 1)["blocked"] is False

    found.stall(1000 * MS, 0.3, "gil", HERE, "thread")
    found.stall(1000 * MS, 0.1, "loop", HERE, "task")

    report = found.report("x", 1)
    assert report["blocked"] is True
    assert (report["stalls"], report["max_stall"], report["blocked_s"]) == (2, 0.3, pytest.approx(0.4))
    assert {cause: value["stalls"] for cause, value in report["by_cause"].items()} == {
        "loop": 1,
        "gil": 2,
        "gc": 1,
        "machine": 1,
    }


def test_stalls_are_grouped_by_culprit_and_the_worst_stands_first() -> None:
    found = findings()
    other = spot_at(2)
    for length_s in (0.1, 0.3, 0.2):
        found.stall(1000 * MS, length_s, "loop", other, "task")
    found.stall(1000 * MS, 0.5, "loop", HERE, "task")

    first, second = found.report("x", 1)["culprits"]

    assert (first["line"], first["count"], first["total_s"], first["longest_s"]) == (2, 3, pytest.approx(0.6), 0.3)
    assert (second["line"], second["count"]) == (1, 1)
    assert first["excerpt"] == [[n, Path(__file__).read_text().splitlines()[n - 1]] for n in (1, 2, 3)]


def test_without_a_beat_nothing_is_known() -> None:
    report = findings().report("x", MS)

    assert report["blocked"] is None
    assert "never ran" in report["note"]
    assert report["lag"]["p50"] is None


def test_the_loops_own_share_of_an_operation_is_its_lateness_at_both_ends() -> None:
    found = findings()
    found.lag(10 * MS, 100 * MS)  # late from 90 to 100
    found.lag(5 * MS, 200 * MS)
    found.lag(8 * MS, 300 * MS)

    assert found.own_share(95 * MS, 150 * MS) == 5 * MS
    assert found.own_share(50 * MS, 100 * MS) == 10 * MS
    assert found.own_share(95 * MS, 299 * MS) == (5 + 7) * MS  # what was late in between delayed nothing
    assert found.own_share(150 * MS, 250 * MS) == 0
    assert found.own_share(192 * MS, 303 * MS) == (5 + 8) * MS  # near enough to be of the same turn


def test_the_report_is_an_event_loop_of_the_results_schema() -> None:
    schema = json.loads((Path(asyncload_lib.results.__path__[0]) / "schema.json").read_text())
    found = findings()
    found.lag(3 * MS, MS)
    found.stall(1000 * MS, 0.3, "loop", HERE, "task")
    found.queue(1000 * MS, 0.02)

    wanted = {"$ref": "#/$defs/event_loop", "$defs": schema["$defs"]}
    jsonschema.validate({**found.report("target", MS), "process": "1"}, wanted)
