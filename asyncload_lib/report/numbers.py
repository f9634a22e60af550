"""One way to write a number, for every format: three significant digits, the unit chosen by size.

Markdown, HTML, console and charts call these functions and no others, so they show the same digits. Whatever is not
a finite number is NOTHING, never 0.
"""

import math
from collections.abc import Sequence
from typing import Any

from asyncload_lib.results.figures import number

__all__ = [
    "NOTHING",
    "count",
    "counted",
    "duration",
    "listed",
    "percent",
    "quantity",
    "rate",
    "ratio",
    "short_duration",
    "short_ratio",
    "span",
]

NOTHING = "–"  # noqa: RUF001 the sign a reader takes for "no value"

_DIGITS = 3
_LISTED = 3
_UNREADABLE = 1e15


def _significant(value: float) -> str:
    """Write `value` with three significant digits, without an exponent; whole from 1,000 on."""
    if value == 0:
        return "0"
    if abs(value) >= _UNREADABLE:
        return f"{value:.{_DIGITS - 1}e}"
    value = _rounded(value)
    exponent = math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, _DIGITS - 1 - exponent)}f}"


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS - 1}e}") if abs(value) < 10**_DIGITS else float(round(value))


def count(value: Any) -> str:
    """Write a whole number with thousands separators."""
    found = number(value)
    if found is None:
        return NOTHING
    return f"{found:,.0f}" if abs(found) < _UNREADABLE else f"{found:.2e}"


def counted(value: Any, thing: str, things: str = "") -> str:
    """Write a number of things: `1 stall`, `2 stalls`; `things` where the plural is not made by an s."""
    return f"{count(value)} {thing if number(value) == 1 else things or thing + 's'}"


def duration(seconds: Any) -> str:
    """Write seconds as µs, ms or s."""
    found = number(seconds)
    if found is None:
        return NOTHING
    if found == 0:
        return "0 s"
    # Rounded before the unit is chosen: 0.9996 s is 1.00 s, not 1,000 ms.
    size = abs(_rounded(found * 1e6) / 1e6) if abs(found) < 1e-3 else abs(_rounded(found))
    if size < 1e-3:
        return f"{_significant(found * 1e6)} µs"
    if size < 1:
        return f"{_significant(found * 1e3)} ms"
    return f"{_significant(found)} s"


def short_duration(seconds: Any) -> str:
    """Write seconds as `duration` does, without trailing zeros: for what was set, not measured (limits, ticks)."""
    figure, _, unit = duration(seconds).partition(" ")
    return f"{figure.rstrip('0').rstrip('.')} {unit}" if "." in figure else f"{figure} {unit}".strip()


def span(low: Any, high: Any) -> str:
    """Write an interval of two durations, e.g. a confidence interval."""
    if number(low) is None or number(high) is None:
        return NOTHING
    return f"{duration(low)} – {duration(high)}"  # noqa: RUF001


def quantity(value: Any) -> str:
    """Write a plain number with three significant digits."""
    found = number(value)
    return NOTHING if found is None else _significant(found)


def rate(per_second: Any) -> str:
    """Write a number per second."""
    found = number(per_second)
    return NOTHING if found is None else f"{_significant(found)}/s"


def percent(fraction: Any) -> str:
    """Write a fraction (0..1) as a percentage."""
    found = number(fraction)
    if found is None:
        return NOTHING
    if 0.9995 <= found < 1:
        return "> 99.9 %"  # all but everything is not everything
    return "100 %" if found == 1 else f"{_significant(found * 100)} %"


def short_ratio(value: Any) -> str:
    """Write a factor that was not measured, without trailing zeros."""
    found = number(value)
    return NOTHING if found is None else f"{found:.4g}x"


def ratio(value: Any) -> str:
    """Write a factor, e.g. a speed-up."""
    found = number(value)
    return NOTHING if found is None else f"{_significant(found)}x"


def listed(words: Sequence[str]) -> str:
    """Join the first words and say how many are left out."""
    rest = len(words) - _LISTED
    return ", ".join(words[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")
