"""Which addresses a run cannot do without, and whether it brings its own target; for a run and for `check`."""

from collections.abc import Sequence

from asyncload_lib.settings import Settings

__all__ = ["is_embedded", "missing"]

_NEEDS = {"chat": "host", "redis": "redis.url", "mixed": "redis.url", "vm_health": "vms"}
"""The address that each scenario cannot do without."""


def is_embedded(settings: Settings, host: str | None) -> bool:
    """Say whether the target is the embedded demo: no address is configured; `host` is Locust's or the settings'."""
    return not (host or settings.redis.url or settings.vms)


def missing(settings: Settings, host: str | None, scenarios: Sequence[str]) -> list[str]:
    """Return what keeps these scenarios from running, one sentence each; () is a run without scenarios."""
    if is_embedded(settings, host):
        return [
            "baseline.host is set, but host is not: without a host the target is the embedded demo, which brings its "
            "own blocking service; set host too, or leave baseline.host out"
        ] * bool(settings.baseline.host)
    known = {"host": host, "redis.url": settings.redis.url, "vms": settings.vms}
    return [
        f"{_NEEDS[scenario]} is not set, but scenario {scenario} needs it: set it, or leave the scenario out of "
        f"`scenarios` ({', '.join(scenarios)})"
        for scenario in scenarios
        if not known[_NEEDS[scenario]]
    ]
