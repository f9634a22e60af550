"""Names and error texts from outside, made fit to be keys: short, packable, and few."""

import re
from functools import lru_cache

from asyncload_lib.redaction import redact

__all__ = ["MAX_LENGTH", "OTHER", "clean", "error_text"]

MAX_LENGTH = 200
OTHER = "other"
"""Where names and errors beyond the cap are counted."""

_RAW_LENGTH = 2_000  # more of an error's text is not even looked at: it may be a megabyte of HTML

_VARYING = re.compile(
    r"(?P<keep>\b\d{1,3}(?:\.\d{1,3}){3}\b"  # an IPv4 address tells which machine
    r"|(?<![\w.])[1-5]\d\d(?![\w.]*\d))"  # an HTTP status or an errno tells what happened
    r"|0x[0-9a-fA-F]+"
    r"|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"
    r"|\b(?=[a-fA-F]*\d)[0-9a-fA-F]{8,}\b"
    r"|\d+(?:\.\d+)?"
)


def clean(value: object) -> str:
    """Return `value` without secrets, as a text of at most 200 characters that UTF-8 can carry (`?` for the rest)."""
    text = value if isinstance(value, str) else str(value)
    return redact(text[:_RAW_LENGTH])[:MAX_LENGTH].encode("utf-8", "replace").decode("utf-8")


def error_text(error: object) -> str:
    """Return what went wrong as `Type: message`, without what differs each time: numbers, addresses, identifiers.

    Texts are passed on as they are, and an exception whose own text fails is named by its type.
    """
    kind = "" if isinstance(error, str) else type(error).__name__
    try:
        message = str(error)[:_RAW_LENGTH]
    except Exception:
        message = ""
    return _normalised(kind, message)


@lru_cache(maxsize=1024)
def _normalised(kind: str, message: str) -> str:
    # Secrets first: what is cut off or folded away in the middle of one is no longer known for what it is.
    folded = _VARYING.sub(lambda found: found["keep"] or "#", redact(message))
    return clean(": ".join(part for part in (kind, folded) if part) or "error without a text")
