"""Where the load goes: the addresses of the system under test, configured or embedded."""

from dataclasses import asdict, dataclass
from typing import Any

from asyncload_lib.vm_list import Vm

__all__ = ["Target", "base_address"]


def base_address(text: str | None) -> str | None:
    """Return a host as paths are put behind it and as it is compared: without slashes at its end; None if empty."""
    return (text or "").strip().rstrip("/") or None


@dataclass(frozen=True, slots=True)
class Target:
    """The system under test; an address that is None was not configured and is never guessed.

    `host`: chat backend; `baseline_host`: the same backend, blocking; `probe_token`: what its event-loop probe asks
    for; `simulated`: what an embedded target makes up, in seconds by name.
    """

    host: str | None = None
    baseline_host: str | None = None
    redis_url: str | None = None
    vms: tuple[Vm, ...] = ()
    probe_token: str | None = None
    embedded: bool = False
    mode: str | None = None
    simulated: dict[str, float] | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return plain types for a message to a worker."""
        return {**asdict(self), "vms": [asdict(vm) for vm in self.vms]}

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> "Target":
        """Rebuild what `to_wire` returned."""
        return cls(**{**data, "vms": tuple(Vm(**vm) for vm in data["vms"])})
