"""How figures stand in a sentence: three digits, whole from 1,000 on, and never an exponent."""

from collections.abc import Callable
from decimal import Decimal

__all__ = ["beside_limit", "figure_words", "time_words"]


def time_words(seconds: float) -> str:
    """Return how long something took, in milliseconds or seconds."""
    is_long = abs(float(f"{seconds:.3g}")) >= 1
    return f"{figure_words(seconds)} s" if is_long else f"{figure_words(seconds * 1e3)} ms"


def figure_words(value: float) -> str:
    """Return a number, however large or small it is."""
    rounded = Decimal(f"{value:.3g}")
    return f"{value:,.0f}" if abs(rounded) >= 1000 else f"{rounded:f}"


def beside_limit(value: float, holds: Callable[[float], bool]) -> str:
    """Return a number with as many more digits as it takes not to look like the other side of its limit.

    `holds`: whether a number keeps that limit. There are no commas in it: limits are written as a user sets them.
    """
    whole_digits = len(str(int(abs(value))))
    for digits in (3, 4, 5, 6, 9, 12, 15):
        figure = f"{value:.{max(digits, whole_digits)}g}"
        if holds(float(figure)) == holds(value):
            return f"{Decimal(figure):f}"
    return repr(value)
