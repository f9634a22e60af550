"""How long something took, in the words of remarks: three digits, in milliseconds or seconds."""

__all__ = ["time_words"]


def time_words(seconds: float) -> str:
    """Return a time without an exponent, however long or short it was."""
    is_long = abs(float(f"{seconds:.3g}")) >= 1
    return f"{_digits(seconds)} s" if is_long else f"{_digits(seconds * 1e3)} ms"


def _digits(value: float) -> str:
    return f"{float(f'{value:.3g}'):.12f}".rstrip("0").rstrip(".")
