import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncload_lib.report import numbers
from asyncload_lib.report.numbers import NOTHING

SECONDS = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.0004, "400 µs"),
        (0.00031, "310 µs"),
        (2.04, "2.04 s"),
        (0.0123, "12.3 ms"),
        (0.9996, "1.00 s"),
        (0.0009996, "1.00 ms"),
        (0.9994, "999 ms"),
        (123.4, "123 s"),
        (1234.5, "1,234 s"),
        (-0.0021, "-2.10 ms"),
        (1e308, "1.00e+308 s"),
    ],
)
def test_duration_keeps_three_digits_and_chooses_the_unit(seconds: float, words: str) -> None:
    assert numbers.duration(seconds) == words


def test_counted_things_are_one_or_many() -> None:
    assert [numbers.counted(number, "stall") for number in (0, 1, 2, 1000)] == [
        "0 stalls", "1 stall", "2 stalls", "1,000 stalls",
    ]  # fmt: skip
    assert numbers.counted(2, "latency was", "latencies were") == "2 latencies were"
    assert numbers.counted(None, "stall") == f"{NOTHING} stalls"


@given(st.floats(1e-6, 3600))
def test_duration_reads_back_within_half_a_percent(seconds: float) -> None:
    figure, unit = numbers.duration(seconds).replace(",", "").split()
    assert math.isclose(float(figure) * SECONDS[unit], seconds, rel_tol=0.005)


@given(st.floats(1e-6, 3600))
def test_short_duration_is_the_same_number(seconds: float) -> None:
    figure, unit = numbers.duration(seconds).split()
    short, short_unit = numbers.short_duration(seconds).split()
    assert (float(short.replace(",", "")), short_unit) == (float(figure.replace(",", "")), unit)
    assert not re.search(r"\.\d*0$|\.$", short)


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf, "12", True, [], {}, 10**400])
@pytest.mark.parametrize("name", ["count", "duration", "short_duration", "quantity", "rate", "percent", "ratio"])
def test_nothing_is_never_a_number(name: str, nothing: object) -> None:
    assert getattr(numbers, name)(nothing) == NOTHING


@pytest.mark.parametrize(
    ("fraction", "words"),
    [(0, "0 %"), (0.0123, "1.23 %"), (1, "100 %"), (0.99999, "> 99.9 %"), (0.999, "99.9 %"), (0.00001, "0.00100 %")],
)
def test_percent_says_all_only_for_all(fraction: float, words: str) -> None:
    assert numbers.percent(fraction) == words


def test_a_span_without_one_end_is_nothing() -> None:
    assert numbers.span(0.1, None) == NOTHING
    assert numbers.span(0.1, 0.2) == "100 ms – 200 ms"  # noqa: RUF001


def test_listed_says_how_many_it_leaves_out() -> None:
    assert numbers.listed(["a", "b", "c"]) == "a, b, c"
    assert numbers.listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
