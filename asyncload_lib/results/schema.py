"""Whether a results document holds values of the kinds that `schema.json` tells; what it lacks is for its reader."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["misfit"]

_KINDS = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}

Schema = Mapping[str, Any]


def misfit(results: object) -> str:
    """Return what the first value of another kind is, with its place and what is allowed; "" if all of them fit."""
    return next(_misfits(results, _schema(), ""), "")


@cache
def _schema() -> Schema:
    schema: Schema = json.loads((files("asyncload_lib.results") / "schema.json").read_text("utf-8"))
    return schema


def _misfits(value: Any, schema: Schema, place: str) -> Iterator[str]:
    if "$ref" in schema:
        yield from _misfits(value, _schema()["$defs"][schema["$ref"].rpartition("/")[2]], place)
    if "oneOf" in schema:
        each = [next(_misfits(value, one, place), "") for one in schema["oneOf"]]
        yield from each[-1:] if all(each) else ()
    kind, allowed = _KINDS.get(type(value), "null"), _listed(schema.get("type"))
    if allowed and kind not in allowed and not (kind == "integer" and "number" in allowed):
        yield f"{place} must be {' or '.join(allowed)}, not {kind}"
    elif kind in ("integer", "number"):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            limits = [f"{word} {schema[key]}" for word, key in _LIMITS.items() if key in schema]
            yield f"{place} is {value!s:.40}; allowed is {' and '.join(limits)}"
    elif kind == "object":
        named, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            if isinstance(inner := named.get(key, others), dict):
                yield from _misfits(item, inner, f"{place}.{key}".lstrip("."))
    elif kind == "array" and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from _misfits(item, schema["items"], f"{place}[{index}]")


_LIMITS = {"at least": "minimum", "at most": "maximum"}


def _listed(kinds: str | list[str] | None) -> list[str]:
    return [kinds] if isinstance(kinds, str) else kinds or []
