"""The criteria as a plain table for the end of a run: no colour, no control characters, at most 100 columns."""

import textwrap
import unicodedata
from collections.abc import Mapping
from typing import Any

from asyncload_lib.report.numbers import NOTHING
from asyncload_lib.report.table import Table
from asyncload_lib.report.view import build

__all__ = ["WIDTH", "console_table"]

WIDTH = 100

_MOST = (18, 42, 16, 18)
"""Columns of a verdict, a criterion, a limit and what was observed, where all of them are long."""


def console_table(results: Mapping[str, Any]) -> str:
    """Give the verdict, then one line per criterion: verdict, criterion, limit, observed; why where it did not pass.

    Below stands what must be known to trust them.
    """
    report = build(results)
    lines = [f"{report.verdict.word.upper()}: {report.sentence}"]
    if report.criteria is not None:
        lines += ["", *_rows(report.criteria)]
    for note in report.criteria_notes:
        lines += ["", note]
    return "\n".join(part for line in lines for part in _folded(line)) + "\n"


def _rows(table: Table) -> list[str]:
    titles = [column.title for column in table.columns if column.title != "Remark"]
    cells = [[str(cell) for cell in row[: len(titles)]] for row in table.rows]
    longest = [max(map(_width, [titles[at], *(row[at] for row in cells)])) for at in range(len(titles))]
    widths = [min(most, found) for most, found in zip(_MOST, longest, strict=False)]
    widths[1] = min(longest[1], widths[1] + WIDTH - sum(widths) - 2 * (len(widths) - 1))  # names take what is left
    lines = [_line(titles, widths), _line(["-" * width for width in widths], widths)]
    for row, plain in zip(table.rows, cells, strict=True):
        lines.append(_line(plain, widths))
        if _width(plain[1]) > widths[1]:
            lines.append(f"  {plain[1]}")
        why = str(row[-1]) if len(row) > len(titles) else NOTHING
        if row[0].word != "pass" and why != NOTHING:
            lines.append(f"  {why}")
    return lines


def _line(cells: list[str], widths: list[int]) -> str:
    return "  ".join(_fit(cell, width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _fit(text: str, width: int) -> str:
    while _width(text) > width:
        text = text[:-2] + "…"
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns in a terminal: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def _folded(line: str) -> list[str]:
    if _width(line) <= WIDTH:
        return [line]
    indent = "  " if line.startswith("  ") else ""
    narrow = max(WIDTH // 2, WIDTH - sum(_width(sign) > 1 for sign in line))
    return textwrap.wrap(line.strip(), narrow, initial_indent=indent, subsequent_indent="  ") or [""]
