"""How figures stand in a sentence: three digits, whole from 1,000 on, and never an exponent."""

from decimal import Decimal

__all__ = ["figure_words", "time_words"]


def time_words(seconds: float) -> str:
    """Return how long something took, in milliseconds or seconds."""
    is_long = abs(float(f"{seconds:.3g}")) >= 1
    return f"{figure_words(seconds)} s" if is_long else f"{figure_words(seconds * 1e3)} ms"


def figure_words(value: float) -> str:
    """Return a number, however large or small it is."""
    rounded = Decimal(f"{value:.3g}")
    return f"{value:,.0f}" if abs(rounded) >= 1000 else f"{rounded:f}"
