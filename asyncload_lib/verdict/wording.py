"""How long something took, in the words of remarks: three digits, in milliseconds or seconds."""

import re

__all__ = ["readable", "time_words"]

_EXPONENT = re.compile(r"(?<![\w.])(\d(?:\.\d+)?e\+\d+) ms\b")


def time_words(seconds: float) -> str:
    """Return a time without an exponent, however long or short it was."""
    is_long = abs(float(f"{seconds:.3g}")) >= 1
    return f"{_digits(seconds)} s" if is_long else f"{_digits(seconds * 1e3)} ms"


def readable(note: str) -> str:
    """Return a note that was written elsewhere, with times of a second and more in seconds (2.8e+03 ms: 2.8 s)."""
    return _EXPONENT.sub(lambda found: time_words(float(found[1]) / 1e3), note)


def _digits(value: float) -> str:
    return f"{float(f'{value:.3g}'):.12f}".rstrip("0").rstrip(".")
