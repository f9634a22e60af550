"""How a process of a run introduces itself, and in what two of them differ."""

import os
import platform
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncload_lib import __version__
from asyncload_lib.run.digests import locustfiles_digest, package_digest
from asyncload_lib.settings import OPTIONS, Settings

if TYPE_CHECKING:
    from locust.env import Environment

__all__ = ["differences", "files_in_memory", "introduction"]

_IN_MEMORY = {"tmpfs", "ramfs"}


def introduction(settings: Settings, environment: "Environment") -> dict[str, Any]:
    """Return what must agree over all processes of a run, and what only names this one; no secrets."""
    return {
        "version": __version__,
        "locust": version("locust"),
        "python": platform.python_version(),
        "code": package_digest(),
        "locustfiles": locustfiles_digest(environment.parsed_locustfiles),
        "fingerprint": settings.fingerprint(),
        "settings": settings.redacted(),
        "host": platform.node(),
        "pid": os.getpid(),
        "network": _network(),
        "file_system": _file_system(settings.files.directory),
    }


def files_in_memory(introductions: Iterable[Mapping[str, Any]]) -> str:
    """Say where files of these processes lie in memory; "" if nothing is known of such."""
    kinds = sorted(_IN_MEMORY & {one.get("file_system") for one in introductions})
    return f"files lie in memory ({', '.join(kinds)}), where fsync costs nothing" if kinds else ""


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Say in which ways a worker's introduction differs from the master's own, where that changes what it does."""
    found = [
        f"its {words} is {theirs.get(key)}, the master's is {ours[key]}"
        for key, words in (("version", "asyncload"), ("locust", "Locust"))
        if theirs.get(key) != ours[key]
    ]
    if _minor(theirs.get("python")) != _minor(ours["python"]):
        found.append(f"its Python is {theirs.get('python')}, the master's is {ours['python']}")
    if theirs.get("version") == ours["version"] and theirs.get("code") != ours["code"]:
        found.append(f"its code of asyncload {ours['version']} differs from the master's")
    if theirs.get("locustfiles") != ours["locustfiles"]:
        found.append("its locustfile differs from the master's")
    their_settings = theirs.get("settings") or {}
    found += [
        f"its {key} is {their_settings.get(key)}, the master's is {value}"
        for key, value in ours["settings"].items()
        if OPTIONS[key].shared and their_settings.get(key) != value
    ]
    if not found and ours["fingerprint"] != theirs.get("fingerprint"):
        found.append("one of its secrets differs from the master's")
    return found


def _minor(version: str | None) -> list[str]:
    """Return the part of Python's version that tells its features and speed apart, as 3 and 12."""
    return (version or "").split(".")[:2]


def _file_system(directory: Path | None) -> str:
    """Return the type of the file system that file users write to, such as ext4; "" where it cannot be told."""
    try:
        device = os.stat(directory or tempfile.gettempdir()).st_dev
        mounts = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    return next((mount.partition(" - ")[2].split()[0] for mount in mounts if mount.split()[2] == number), "")


def _network() -> str:
    """Return what two processes have in common exactly when 127.0.0.1 is the same place for both."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/net')}"
    except OSError:
        return platform.node()
