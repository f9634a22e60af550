"""Which addresses a run cannot do without, and whether it brings its own target; for a run and for `check`."""

from collections.abc import Mapping, Sequence

from asyncload_lib.settings import Settings

__all__ = ["is_embedded", "missing", "missing_for_users"]

_NEEDS = {"chat": "host", "redis": "redis.url", "mixed": "redis.url", "vm_health": "vms"}
"""The address that each scenario cannot do without."""


def is_embedded(settings: Settings, host: str | None) -> bool:
    """Say whether the target is the embedded demo: no address is configured; `host` is Locust's or the settings'."""
    return not (host or settings.redis.url or settings.vms)


def missing(settings: Settings, host: str | None, scenarios: Sequence[str]) -> list[str]:
    """Return what keeps these scenarios from running, one sentence each; () is a run without scenarios."""
    if is_embedded(settings, host):
        if not settings.baseline.host:
            return []
        return [
            "baseline.host is set, but host is not: without a host the target is the embedded demo, which brings its "
            "own blocking service; set host too, or leave baseline.host out"
        ]
    return [
        f"{_NEEDS[scenario]} is not set, but scenario {scenario} needs it: set it, or leave the scenario out of "
        f"`scenarios` ({', '.join(scenarios)})"
        for scenario in scenarios
        if not _known(settings, host)[_NEEDS[scenario]]
    ]


def missing_for_users(settings: Settings, host: str | None, needs: Mapping[str, str]) -> list[str]:
    """Return what keeps users from running, one sentence each; `needs`: names of classes -> the setting, or ""."""
    if is_embedded(settings, host):
        return []
    known = _known(settings, host)
    lack = {name: need for name, need in needs.items() if need and not known[need]}
    others = " ".join(name for name in needs if name not in lack)
    otherwise = f", or run the other users only: locust -f FILE {others}" if others else ""
    return [f"{need} is not set, but users of {name} need it: set it{otherwise}" for name, need in lack.items()]


def _known(settings: Settings, host: str | None) -> dict[str, object]:
    return {"host": host, "redis.url": settings.redis.url, "vms": settings.vms}
