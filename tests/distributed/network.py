"""Hosts with addresses of their own on one machine: network namespaces on a bridge that is in a namespace itself."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

__all__ = ["Network", "unavailable"]

_NAMESPACES = Path("/run/netns")
_PREFIX = "asyncload"


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


def unavailable() -> str | None:
    """Say why there can be no namespaces here; None if there can."""
    if shutil.which("ip") is None:
        return "network namespaces need the command `ip`"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"{_PREFIX}-{os.getpid()}-probe"
    made = _ip("netns", "add", probe, check=False)
    if made.returncode:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    _ip("netns", "delete", probe)
    return None


class Network:
    """Hosts 10.77.0.1, .2 ... by name, each in a namespace; nothing leads out, and nothing is left behind.

    `delay_ms`: added to everything a host sends, where the kernel has netem; `has_delay` says whether it has.
    """

    def __init__(self, delay_ms: float = 0.0) -> None:
        self._delay_ms = delay_ms
        self._numbers: dict[str, int] = {}
        self.has_delay = False

    def __enter__(self) -> Self:
        _remove_stale()
        try:
            self._add_namespace("bridge")
            _ip("-n", self._namespace("bridge"), "link", "add", "br0", "type", "bridge")
            _ip("-n", self._namespace("bridge"), "link", "set", "br0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _remove(os.getpid())

    def add(self, host: str) -> str:
        """Make a host and return its address."""
        number = self._numbers[host] = len(self._numbers) + 1
        inside, bridge = self._namespace(host), self._namespace("bridge")
        self._add_namespace(host)
        _ip("link", "add", f"v{number}", "netns", bridge, "type", "veth", "peer", "name", "eth0", "netns", inside)
        _ip("-n", bridge, "link", "set", f"v{number}", "master", "br0", "up")
        _ip("-n", inside, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
        _ip("-n", inside, "link", "set", "eth0", "up")
        _ip("-n", inside, "link", "set", "lo", "up")
        if self._delay_ms and shutil.which("tc"):
            rule = ["tc", "-n", inside, "qdisc", "add", "dev", "eth0", "root", "netem", "delay", f"{self._delay_ms}ms"]
            self.has_delay = subprocess.run(rule, check=False, capture_output=True).returncode == 0
        return self.address(host)

    def address(self, host: str) -> str:
        return f"10.77.0.{self._numbers[host]}"

    def place(self, host: str) -> list[str]:
        """Return the command prefix that runs another command on the host."""
        return ["ip", "netns", "exec", self._namespace(host)]

    def unplug(self, host: str) -> None:
        """Cut the host off; its processes go on."""
        _ip("-n", self._namespace("bridge"), "link", "set", f"v{self._numbers[host]}", "down")

    def plug(self, host: str) -> None:
        """Connect the host again."""
        _ip("-n", self._namespace("bridge"), "link", "set", f"v{self._numbers[host]}", "up")

    def _add_namespace(self, host: str) -> None:
        _ip("netns", "add", self._namespace(host))

    def _namespace(self, host: str) -> str:
        return f"{_PREFIX}-{os.getpid()}-{host}"


def _remove(pid: int) -> None:
    for path in _NAMESPACES.glob(f"{_PREFIX}-{pid}-*"):
        _ip("netns", "delete", path.name, check=False)


def _remove_stale() -> None:
    """Remove what a test run left that was killed."""
    for path in _NAMESPACES.glob(f"{_PREFIX}-*-bridge"):
        pid = int(path.name.split("-")[1])
        if not Path(f"/proc/{pid}").exists():
            _remove(pid)
