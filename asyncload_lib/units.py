"""Kinds of values a setting can have: how each is read, which values are allowed, and how one is written.

Durations are kept as float seconds, sizes as int bytes, percentages as float percent. A TOML file brings numbers and
booleans as such; environment and command line bring text, which `from_text` turns into what the file would hold.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from asyncload_lib.redaction import redact

__all__ = [
    "CARRYING_HEADERS",
    "DURATION_UNITS",
    "REDIS_SCHEMES",
    "Kind",
    "NotAllowedError",
    "choice",
    "choices",
    "directory",
    "duration",
    "duration_written",
    "flag",
    "number",
    "percentage",
    "shown",
    "size",
    "size_written",
    "text",
    "texts",
    "url",
    "url_path",
    "whole",
]

T = TypeVar("T")

DURATION_UNITS: Mapping[str, float] = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
SIZE_UNITS: Mapping[str, float] = {
    "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip

REDIS_SCHEMES = ("redis", "rediss", "unix")
REDIS_PARAMETERS: Mapping[str, tuple[str, str]] = {
    "db": (r"\d+", "a number, such as 0"),
    "protocol": ("2|3", "2 or 3"),
    **dict.fromkeys(("username", "password"), (".*", "a text")),
    "ssl_cert_reqs": ("none|optional|required", "none, optional or required"),
    "ssl_check_hostname": ("true|false", "true or false"),
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"), (".+", "a path")),
}
"""What may stand behind the `?` of a Redis URL, those of TLS in `rediss://`, by pattern and in words; timeouts have
settings of their own."""

CARRYING_HEADERS = ("connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade")
"""How a request is carried, which its client says."""
_NOT_GIVEN = (*CARRYING_HEADERS, "x-request-id")  # that is each user's affair

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[!-~](?:[ -~]*[!-~])?")
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z%]*)\s*", re.ASCII)


class NotAllowedError(ValueError):
    """A compound value is not allowed; `details` has one clause for each part that is wrong."""

    def __init__(self, details: Iterable[str]) -> None:
        self.details = tuple(details)
        super().__init__("; ".join(self.details))


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How one sort of value is read: `check` takes what TOML holds and raises ValueError when it is not allowed.

    `written` gives a value back as a user would write it, for messages.
    """

    allowed: str
    check: Callable[[object], T]
    from_text: Callable[[str], object] = str
    written: Callable[[Any], str] = str


def shown(value: object) -> str:
    """Return `value` for a message: one line, printable, passwords hidden, cut to 80 characters.

    Of a table only the keys are told: any of its values may be a secret that is not known for one here.
    """
    try:
        line = repr(_hidden(value))
    except ValueError:  # CPython refuses to print an int of more than 4300 digits
        return "a number of thousands of digits"
    return line if len(line) <= 80 else line[:77] + "..."


def _hidden(value: object) -> object:
    if isinstance(value, dict):
        return dict.fromkeys(value, "***")
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    return redact(value) if isinstance(value, str) else value


def _quantity(value: object, units: Mapping[str, float], low: float, high: float) -> float:
    """Return a bare number, or a number with one of `units`, as a float within low..high."""
    factor = 1.0
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value)
        if match is None or (match[2] and match[2] not in units):
            raise ValueError(value)
        value, factor = float(match[1]), units.get(match[2], 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    if not low <= value * factor <= high:  # also refuses NaN
        raise ValueError(value)
    return float(value * factor)


def duration_written(seconds: float, gap: str = "") -> str:
    """Return a duration as a user would write it, to its last digit; `gap` stands between figure and unit."""
    unit = next((unit for unit in ("s", "ms") if seconds >= DURATION_UNITS[unit]), "us" if seconds else "s")
    return f"{seconds / DURATION_UNITS[unit]:.12g}{gap}{unit}"


def size_written(size_bytes: float, gap: str = "") -> str:
    """Return a size as a user would write it: in the largest unit in which it is a whole number."""
    units = ("GiB", "MiB", "KiB", "GB", "MB", "kB") if size_bytes else ()
    unit = next((unit for unit in units if size_bytes % SIZE_UNITS[unit] == 0), "B")
    return f"{size_bytes / SIZE_UNITS[unit]:.15g}{gap}{unit}"


def whole(low: int = 0, high: int = 1_000_000) -> Kind[int]:
    """A whole number within low..high."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(value)
        return value

    return Kind(f"a whole number from {low} to {high}", check, int)


def number(low: float, high: float) -> Kind[float]:
    """A number within low..high."""
    allowed = f"a number from {low:g} to {high:g}"
    return Kind(allowed, lambda value: _quantity(value, {}, low, high), written="{:g}".format)


def duration(low_s: float = 0.0, high_s: float = 86_400.0) -> Kind[float]:
    """A duration: seconds, or text with a unit (us, ms, s, m, h); kept in seconds."""
    low, high = duration_written(low_s), duration_written(high_s)
    allowed = f'a duration from {low} to {high}, such as 15, "15s", "200 ms" or "1m"'
    return Kind(allowed, lambda value: _quantity(value, DURATION_UNITS, low_s, high_s), written=duration_written)


def size(low_bytes: int, high_bytes: int) -> Kind[int]:
    """A size: bytes, or text with a unit (kB, MB, GB, KiB, MiB, GiB); kept in bytes."""

    def check(value: object) -> int:
        size_bytes = _quantity(value, SIZE_UNITS, low_bytes, high_bytes)
        if not size_bytes.is_integer():
            raise ValueError(value)
        return int(size_bytes)

    low, high = size_written(low_bytes), size_written(high_bytes)
    return Kind(f'a size from {low} to {high}, such as 65536, "64KiB" or "1 MB"', check, written=size_written)


def percentage(low: float = 0.0, high: float = 100.0) -> Kind[float]:
    """A percentage such as 90 or "90 %"; kept in percent."""
    allowed = f'a percentage from {low:g} to {high:g}, such as 90 or "90 %"'
    return Kind(allowed, lambda value: _quantity(value, {"%": 1.0}, low, high), written="{:g} %".format)


def flag() -> Kind[bool]:
    """A switch: true or false."""

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(value)
        return value

    words = {"true": True, "false": False}
    return Kind("true or false", check, lambda line: words.get(line.strip().lower()), lambda value: str(value).lower())


def text(pattern: str, allowed: str) -> Kind[str]:
    """A text of at most 4096 printable characters that matches `pattern` from its first to its last character."""
    compiled = re.compile(pattern, re.ASCII)

    def check(value: object) -> str:
        if not isinstance(value, str) or len(value) > 4096 or not value.isprintable() or not compiled.fullmatch(value):
            raise ValueError(value)
        return value

    return Kind(allowed, check)


def choice(*names: str) -> Kind[str]:
    """One of `names`."""
    return text("|".join(map(re.escape, names)), "one of " + ", ".join(names))


def _split(separator: str) -> Callable[[str], object]:
    return lambda line: [part.strip() for part in line.split(separator) if part.strip()]


def choices(*names: str) -> Kind[tuple[str, ...]]:
    """At least one of `names`, none twice; the order is kept."""

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
            raise ValueError(value)
        if unknown := [shown(name) for name in value if name not in names]:
            raise NotAllowedError([f"{', '.join(unknown)} is unknown; there are {', '.join(names)}"])
        if len(set(value)) < len(value):
            raise NotAllowedError([f"a name is given twice: {', '.join(value)}"])
        return tuple(value)

    return Kind(f"a list of at least one of {', '.join(names)}", check, _split(","))


def texts(separator: str, allowed: str) -> Kind[tuple[str, ...]]:
    """A list of texts; `separator` parts them in one line."""

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(line, str) and line.isprintable() for line in value):
            raise ValueError(value)
        return tuple(value)

    return Kind(allowed, check, _split(separator))


def headers() -> Kind[tuple[str, ...]]:
    """HTTP headers, each as it stands in a request; none that says how the request is carried."""
    allowed = 'a list of headers, such as ["Authorization: Bearer ..."]; on one line, separated by "|"'

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(line, str) and _HEADER.fullmatch(line) for line in value):
            raise ValueError(value)
        names = [line.partition(":")[0].lower() for line in value]
        if wrong := sorted({name for name in names if name in _NOT_GIVEN or names.count(name) > 1}):
            raise NotAllowedError([f"{', '.join(wrong)}: give each header once, and none of {', '.join(_NOT_GIVEN)}"])
        return tuple(value)

    return Kind(allowed, check, _split("|"))


def directory() -> Kind[Path]:
    """A path to a directory, which need not exist; `~` is a home directory."""
    as_text = text(r".*\S.*", "")

    def check(value: object) -> Path:
        try:
            return Path(as_text.check(value)).expanduser()
        except RuntimeError as error:  # nobody of this name
            raise ValueError(value) from error

    return Kind("a path", check)


def url_path() -> Kind[str]:
    """The path of a URL: it begins with one slash, so that it can never name another host."""
    return text(r"/(?!/)[!-\[\]-~]*", 'a path that begins with one "/", such as "/api/chat", without spaces')


def url(*schemes: str, is_base: bool = False) -> Kind[str]:
    """A URL with one of `schemes` and a host (`unix` has a path in its place); no spaces, ASCII only.

    `is_base`: paths are put behind it, so that it has no query. Nothing has a fragment, which is never sent.
    """
    shape = text(r"[!-~]+", "")

    def check(value: object) -> str:
        address = shape.check(value)
        parts = urlsplit(address)  # raises ValueError for a malformed IPv6 host
        if parts.scheme not in schemes or "\\" in parts.netloc:
            raise ValueError(value)
        if not (parts.path.strip("/") if parts.scheme == "unix" else parts.hostname):
            raise ValueError(value)
        if not _has_possible_port(parts):
            raise NotAllowedError([f"the port in {shown(address)} is not allowed; allowed is 1 to 65535"])
        if parts.scheme in ("redis", "rediss") and "@" in parts.path + parts.query + parts.fragment:
            words = "write %2F for / and %3F for ? and %23 for # in a user's name or password"
            raise NotAllowedError([f"{shown(address)} has an @ after its host: {words}"])
        if parts.fragment or (is_base and parts.query):
            extra = "fragment (#)" if parts.fragment else "query (?)"
            raise NotAllowedError([f"{shown(address)} has a {extra}, which is not allowed here"])
        if parts.scheme in REDIS_SCHEMES and (wrong := list(_redis_problems(parts, shown(address)))):
            raise NotAllowedError(wrong)
        return address

    example = {"http": "http://127.0.0.1:8001", "redis": "redis://127.0.0.1:6379/0"}[schemes[0]]
    return Kind(f"a URL with {' or '.join(f'{scheme}://' for scheme in schemes)}, such as {example}", check)


def _redis_problems(parts: SplitResult, address: str) -> Iterator[str]:
    """Say what redis-py would not understand, or would silently take for something else."""
    if parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
        yield f"the database in {address} is {shown(parts.path[1:])}; allowed is a number, such as /0"
    allowed = {
        name: values
        for name, values in REDIS_PARAMETERS.items()
        if parts.scheme == "rediss" or not name.startswith("ssl_")
    }
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            yield f"the parameter {shown(name)} of {address} is unknown here; there are {', '.join(allowed)}"
            continue
        pattern, words = allowed[name]
        if not re.fullmatch(pattern, value):
            yield f"the parameter {name} of {address} is {shown(value)}; allowed is {words}"


def _has_possible_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:  # no number, or one over 65535
        return False
