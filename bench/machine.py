"""What the figures were measured on: the kind of machine, its load before, and the versions of all that took part."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.peers import HOME, Peers

__all__ = ["describe"]

_OWN = ("locust", "gevent", "uvloop", "pyreqwest", "redis", "hiredis", "numpy")
_THEIRS = ("aiohttp", "molotov", "uvloop")
_PROGRAMS = {
    "nginx": ("-v",),
    "redis-server": ("--version",),
    "redis-benchmark": ("--version",),
    "wrk": ("-v",),
    "fio": ("--version",),
    "autocannon": ("--version",),
}


def describe(peers: Peers) -> dict[str, Any]:
    """Return machine and versions as JSON types; nothing in it names the machine itself."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _OWN} | _peer_versions(peers),
    }


def _cpu() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _peer_versions(peers: Peers) -> dict[str, str]:
    found = {}
    for name, arguments in _PROGRAMS.items():
        if name in peers.programs:
            said = re.search(r"\d+\.\d+[\w.]*", _said([str(peers.programs[name]), *arguments]))
            found[name] = said[0] if said else "unknown"
    hey = _said(["dpkg-query", "-W", "-f", "${Version}", "hey"]) if "hey" in peers.programs else ""
    if hey:
        found["hey"] = hey.partition("-")[0]
    if "python" in peers.programs:
        program = f"from importlib.metadata import version\nfor n in {_THEIRS}: print(n, version(n))"
        lines = _said([str(peers.programs["python"]), "-c", program]).split("\n")
        found |= {f"{name} (peers)": number for name, _, number in (line.partition(" ") for line in lines) if number}
    if (package := HOME / "node" / "node_modules" / "artillery" / "package.json").exists():
        said = re.search(r'"version": "([^"]+)"', package.read_text())
        found["artillery"] = said[1] if said else "unknown"
    return found


def _said(command: list[str]) -> str:
    """Return what a program says of itself, on whichever stream."""
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return ended.stdout + ended.stderr
