"""The body of a request as the bytes that are sent, and the content type that follows from how it was given."""

import json as json_module
from collections.abc import Iterable, Mapping
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]
from typing import Any
from urllib.parse import urlencode

__all__ = ["Pairs", "encoded", "pairs_of"]

Pairs = Mapping[str, Any] | Iterable[tuple[str, Any]]

_encoder = json_module.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
# The encoder's own `encode` makes a new one of these each time, which costs four times as much.
_chunks_of_json: Any = c_make_encoder(None, _encoder.default, encode_basestring, None, ":", ",", False, False, False)


def encoded(data: bytes | str | Pairs | None, json: Any) -> tuple[bytes | None, str | None]:
    """Return body and content type, each None where there is none; `data` goes before `json`, as in requests.

    Raises ValueError or TypeError for what cannot be encoded.
    """
    if data is None:
        return (None, None) if json is None else ("".join(_chunks_of_json(json, 0)).encode(), "application/json")
    if isinstance(data, str):
        return data.encode(), None
    if isinstance(data, bytes):
        return data, None
    return urlencode(pairs_of(data)).encode(), "application/x-www-form-urlencoded"


def pairs_of(pairs: Pairs) -> list[tuple[str, Any]]:
    """Return form or query as pairs: of a list of values one for each, of None none, as in requests."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return [(key, one) for key, value in items for one in _values(value) if one is not None]


def _values(value: Any) -> Iterable[Any]:
    return value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else (value,)
