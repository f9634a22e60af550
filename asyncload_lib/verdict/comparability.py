"""Whether a ratio of two runs means anything, and what else than the target may explain it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

__all__ = ["by_scenario", "differences", "in_both", "obstacles"]

Run = Mapping[str, Any]

# How a run was watched, judged and stored; and what the comparison is for: the mode of the demo.
_IMMATERIAL = frozenset(
    {
        "out",
        "stop_timeout",
        "criteria",
        "criteria_defaults",
        "scenarios",
        "seed",
        "host",
        "files.directory",
        "demo.mode",
    }
)
_IMMATERIAL_GROUPS = ("baseline.", "generator.", "loop.")


def obstacles(before: Run, after: Run) -> Iterator[str]:
    """Say everything because of which a ratio of these runs would mean nothing."""
    for which, results in (("before", before), ("after", after)):
        status = results["run"].get("status")
        if status != "complete":
            yield f"the run {which} is {status}: its figures are not certified"
    for key in ("kind", "seed"):
        yield from _differs(key, before["run"].get(key), after["run"].get(key))
    yield from _differs("target", _target(before), _target(after))
    first, second = by_scenario(before), by_scenario(after)
    if first.keys() != second.keys():
        yield from _differs("scenarios", ", ".join(first), ", ".join(second))
    for name in in_both(first, second):
        yield from _differs(f"concurrency of {name}", first[name].get("concurrency"), second[name].get("concurrency"))
        was, now = _requests(first[name]), _requests(second[name])
        if was and now and not was & now:
            yield from _differs(f"what {name} requests", ", ".join(sorted(was)), ", ".join(sorted(now)))
    old, new = (results["run"].get("settings") or {} for results in (before, after))
    for key in sorted(old.keys() | new.keys()):
        if key not in _IMMATERIAL and not key.startswith(_IMMATERIAL_GROUPS):
            yield from _differs(f"setting {key}", old.get(key), new.get(key))


def differences(before: Run, after: Run) -> Iterator[str]:
    """Say what else is not the same and may explain a ratio."""
    for words, read in _SURROUNDINGS.items():
        yield from _differs(words, read(before["run"]), read(after["run"]))
    yield from _differs("verdict", *((results.get("summary") or {}).get("verdict") for results in (before, after)))
    first, second = by_scenario(before), by_scenario(after)
    for name in in_both(first, second):
        alone = sorted(_requests(first[name]) ^ _requests(second[name]))
        if alone and _requests(first[name]) & _requests(second[name]):
            yield f"only one of the runs has in {name}: {', '.join(alone)!s:.120}"
    old, new = ({row.get("name"): row.get("verdict") for row in run.get("criteria") or []} for run in (before, after))
    for name in in_both(old, new):
        yield from _differs(f'"{name}"', old[name], new[name])


_SURROUNDINGS: Mapping[str, Callable[[Run], Any]] = {
    "mode of the target": lambda run: (run.get("target") or {}).get("mode"),
    "commit": lambda run: run.get("git_commit"),
    "machine of the generator": lambda run: (run.get("host") or {}).get("name"),
    "CPUs": lambda run: run.get("cpu_count"),
    "Python": lambda run: run.get("python"),
    "event loop": lambda run: run.get("loop"),
    "directory of the files": lambda run: (run.get("settings") or {}).get("files.directory"),
}


def _differs(what: str, before: object, after: object) -> Iterator[str]:
    if before != after:
        yield f"{what} was {before!s:.120} and is {after!s:.120}"


def _requests(entry: Run) -> set[str]:
    """Return what a scenario asks for."""
    return {f"{row.get('type')} {row.get('name')}" for row in entry.get("endpoints") or []}


def _target(results: Run) -> str:
    """Return whom the load went to; the embedded demo is one target, whatever its port."""
    target = results["run"].get("target") or {}
    return "the embedded demo" if target.get("embedded") else str(target.get("host"))


def in_both(first: Iterable[str], second: Collection[str]) -> list[str]:
    """Return the names in both, in the order of the first."""
    return [name for name in first if name in second]


def by_scenario(results: Run) -> dict[str, Run]:
    """Return the scenarios of a run by their names."""
    return {entry["scenario"]: entry for entry in results["metrics"]}
