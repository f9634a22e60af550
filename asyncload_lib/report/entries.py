"""A results document read without trust: whatever is missing or of another kind is empty, so that a report has gaps."""

from collections.abc import Mapping
from typing import Any

__all__ = ["Entry", "items", "mapping", "mappings"]

Entry = Mapping[str, Any]


def mapping(value: Any) -> Entry:
    """Give `value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """Give what a JSON array holds; nothing for anything else."""
    return list(value) if isinstance(value, list | tuple) else []


def mappings(value: Any) -> list[Entry]:
    """Give the JSON objects of an array; nothing for anything else."""
    return [entry for entry in items(value) if isinstance(entry, Mapping)]
