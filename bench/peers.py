"""The other load generators: those that are there, those that can be installed, and the names of the missing ones."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import ROOT

__all__ = ["Peers", "gather"]

HOME = ROOT / "bench" / ".peers"
APT = {
    "nginx": "nginx-light",
    "wrk": "wrk",
    "hey": "hey",
    "redis-benchmark": "redis-tools",
    "redis-server": "redis-server",
    "fio": "fio",
}
PIP = ("aiohttp", "uvloop", "molotov")
NPM = ("autocannon", "artillery")
INSTALL_LIMIT_S = 420


@dataclass
class Peers:
    """Paths of the programs that are there, and why the others are not."""

    programs: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Path:
        """Return the program's path; raises LookupError with the reason why it is missing."""
        if name not in self.programs:
            raise LookupError(f"not installed: {self.missing.get(name, 'unknown program')}")
        return self.programs[name]


def gather(*, install: bool, heavy: bool) -> Peers:
    """Look for every peer and, with `install`, fetch those that are not there; `heavy` ones (artillery) only if asked.

    System packages need root and apt; the rest goes into `bench/.peers`.
    """
    if install:
        _install(heavy)
    peers = Peers()
    for name, package in APT.items():
        _note(peers, name, shutil.which(name) or shutil.which(name, path="/usr/sbin"), f"apt-get install {package}")
    python = HOME / "venv" / "bin" / "python"
    _note(peers, "python", python if python.exists() else None, f"pip install {' '.join(PIP)}")
    molotov = HOME / "venv" / "bin" / "molotov"
    _note(peers, "molotov", molotov if molotov.exists() else None, "pip install molotov")
    for name in NPM:
        program = HOME / "node" / "node_modules" / ".bin" / name
        _note(peers, name, program if program.exists() else None, f"npm install {name}")
    return peers


def _note(peers: Peers, name: str, path: str | Path | None, remedy: str) -> None:
    if path is None:
        peers.missing[name] = remedy
    else:
        peers.programs[name] = Path(path)


def _install(heavy: bool) -> None:
    wanted = [
        package for name, package in APT.items() if not (shutil.which(name) or shutil.which(name, path="/usr/sbin"))
    ]
    if wanted and shutil.which("apt-get") and os.geteuid() == 0:
        print(f"installing {' '.join(wanted)} ...", flush=True)
        # runlevel 1: no service of these packages is started
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        _run(["apt-get", "update", "-qq"], environment)
        for package in wanted:
            _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], environment)
    venv = HOME / "venv"
    if not (venv / "bin" / "molotov").exists():
        print(f"installing {' '.join(PIP)} into {venv.relative_to(ROOT)} ...", flush=True)
        _run([sys.executable, "-m", "venv", venv])
        _run([venv / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *PIP])
    modules = HOME / "node" / "node_modules" / ".bin"
    absent = [name for name in NPM if (heavy or name != "artillery") and not (modules / name).exists()]
    if absent and shutil.which("npm"):
        print(f"installing {' '.join(absent)} into {(HOME / 'node').relative_to(ROOT)} ...", flush=True)
        flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
        _run(["npm", "install", "--prefix", HOME / "node", *flags, *absent])


def _run(command: list[str | Path], environment: dict[str, str] | None = None) -> None:
    """Run an installer; what it could not install is found missing afterwards."""
    try:
        subprocess.run(
            list(map(str, command)), env=environment, timeout=INSTALL_LIMIT_S, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
