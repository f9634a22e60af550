"""A comparison of two runs (`verdict.comparison`) as a text: for a Markdown file, and for a terminal."""

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

from asyncload_lib.report.text import clean, markdown_text

__all__ = ["compared_markdown", "compared_plain"]

_LONGEST = 500
"""Characters of a note: it tells two values of up to 120 characters, and what they are of."""


def compared_markdown(comparison: Mapping[str, Any]) -> str:
    """Return the comparison as a Markdown text, in which nothing that others wrote is markup."""
    return _written(comparison, lambda words: str(markdown_text(clean(words, _LONGEST))))


def compared_plain(comparison: Mapping[str, Any]) -> str:
    """Return the comparison for a terminal: laid out alike, with nothing escaped, and no control character."""
    return _written(comparison, lambda words: clean(words, _LONGEST))


def _written(comparison: Mapping[str, Any], words: Callable[[str], str]) -> str:
    lines = [
        f"# {words(str(comparison['before']['id']))} -> {words(str(comparison['after']['id']))}: {comparison['words']}",
        "",
    ]
    lines += [f"- {words(note)}" for note in comparison["notes"]]
    for name, rows in groupby(comparison["rows"], lambda row: str(row["test_name"])):
        table = [("metric", "before", "after", "change")]
        table += [(words(row["metric"]), row["before"], row["after"], row["words"]) for row in rows]
        widths = [max(len(line[column]) for line in table) for column in range(4)]
        drawn = [" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in table]
        rule = "-|-".join("-" * width for width in widths)
        lines += ["", f"## {words(name)}", "", *(f"| {line} |" for line in (drawn[0], rule, *drawn[1:]))]
    return "\n".join(lines) + "\n"
