"""Times in remarks: three digits, and never an exponent."""

import pytest

from asyncload_lib.verdict.wording import time_words


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
        (1234.5, "1230 s"),
    ],
)
def test_a_time_is_written_without_an_exponent(seconds: float, words: str) -> None:
    assert time_words(seconds) == words
