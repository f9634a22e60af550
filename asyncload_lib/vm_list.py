"""The machines of the vm_health scenario, as settings give them."""

from collections.abc import Iterator
from dataclasses import dataclass

from asyncload_lib.units import REDIS_SCHEMES, Kind, NotAllowedError, choice, shown, text, url

__all__ = ["Vm", "vms"]

_NAME = text(r"(?=.*\S).{1,64}", "a printable text of 1 to 64 characters")
_KIND = choice("http", "redis")
_URL = {"http": url("http", "https"), "redis": url(*REDIS_SCHEMES)}


@dataclass(frozen=True, slots=True)
class Vm:
    """One machine and how its health is asked for: GET of `url`, or PING for kind "redis"."""

    name: str
    kind: str
    url: str


def vms() -> Kind[tuple[Vm, ...]]:
    """At most 100 machines, no name twice; `kind` may be left out, since the scheme of the URL tells it."""
    allowed = (
        'an array of at most 100 tables {name, kind = "http" or "redis", url}; on one line NAME=URL, separated by ","'
    )

    def check(value: object) -> tuple[Vm, ...]:
        if not isinstance(value, list) or len(value) > 100 or not all(isinstance(table, dict) for table in value):
            raise ValueError(value)
        wrong = [f"machine {number}: {clause}" for number, table in enumerate(value, 1) for clause in _problems(table)]
        names = [table.get("name") for table in value]
        wrong += [f"the name {shown(name)} is given twice" for name in _twice(names)]
        if wrong:
            raise NotAllowedError(wrong)
        return tuple(Vm(table["name"], _kind_of(table), table["url"]) for table in value)

    return Kind(allowed, check, _from_text)


def _problems(table: dict[str, object]) -> Iterator[str]:
    if unknown := [shown(key) for key in table if key not in ("name", "kind", "url")]:
        yield f"{', '.join(unknown)} is unknown; there are name, kind, url"
    kind = _kind_of(table)
    for key, reads in (("name", _NAME), ("kind", _KIND), ("url", _URL.get(kind, _URL["http"]))):
        given = kind if key == "kind" else table.get(key)
        try:
            reads.check(given)
        except NotAllowedError as error:
            yield from error.details
        except ValueError:
            came = f"is {shown(given)}" if key in table else "is missing"
            yield f"{key} {came}; allowed is {reads.allowed}"


def _kind_of(table: dict[str, object]) -> str:
    """Return the kind that was written, else the one that the scheme of the URL tells."""
    if "kind" in table:
        return str(table["kind"])
    return "redis" if str(table.get("url")).startswith(("redis", "unix:")) else "http"


def _twice(names: list[object]) -> list[str]:
    known = [name for name in names if isinstance(name, str)]
    return sorted({name for name in known if known.count(name) > 1})


def _from_text(line: str) -> object:
    tables = []
    for part in filter(str.strip, line.split(",")):
        name, _, address = part.partition("=")
        if "://" in name:  # the name was forgotten, and the address has an = of its own
            name, address = "", part
        tables.append({"name": name.strip(), "url": address.strip()})
    return tables
