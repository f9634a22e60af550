"""Figures in sentences: three digits, whole from 1,000 on, and never an exponent."""

import pytest

from asyncload_lib.results.wording import beside_limit, figure_words, time_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 ms"),
        (0.0000123, "0.0123 ms"),
        (0.0009, "0.9 ms"),
        (0.996, "996 ms"),
        (0.9996, "1 s"),
        (2.8, "2.8 s"),
        (24.32, "24.3 s"),
        (999.7, "1,000 s"),
        (1234.5, "1,234 s"),
    ],
)
def test_a_time_is_written_without_an_exponent(seconds: float, words: str) -> None:
    assert time_words(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0, "0"), (0.0000123, "0.0000123"), (0.5, "0.5"), (20.44, "20.4"), (999.7, "1,000"), (12436.4, "12,436")],
)
def test_so_is_any_other_figure(value: float, words: str) -> None:
    assert figure_words(value) == words


@pytest.mark.parametrize(
    ("value", "limit", "words"),
    [(1.0004, 1, "1"), (0.9996, 1, "0.9996"), (0.5, 1, "0.5"), (12436.4, 1, "12436"), (0.00008, 2, "0.00008")],
)
def test_a_figure_beside_its_limit_is_on_its_own_side(value: float, limit: float, words: str) -> None:
    assert beside_limit(value, lambda figure: figure < limit) == words
