"""Percentiles in tables: with a mark where the sample cannot resolve them, and what the mark means below the table."""

from dataclasses import replace
from typing import Any

from asyncload_lib.report.entries import Entry, mapping
from asyncload_lib.report.numbers import duration
from asyncload_lib.report.table import Table
from asyncload_lib.results.figures import number

__all__ = ["explained", "percentile"]

_MARK = " *"
_NOTE = "* not resolved: the sample is too small for a 95 % interval of this percentile."


def percentile(detailed: Any, name: str, flat: Any = None) -> str:
    """Write the percentile `name` of `detailed` (name -> value, interval, resolved); `flat` where that has none."""
    entry: Entry = mapping(mapping(detailed).get(name))
    value = entry.get("value") if entry else flat
    unresolved = number(value) is not None and entry.get("resolved") is False
    return duration(value) + (_MARK if unresolved else "")


def explained(table: Table | None) -> Table | None:
    """Give the table with a note on the mark, if there is one in it."""
    if table is None or not any(isinstance(cell, str) and cell.endswith(_MARK) for row in table.rows for cell in row):
        return table
    return replace(table, note=f"{table.note} {_NOTE}".strip())
