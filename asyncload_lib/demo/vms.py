"""Health endpoints of the five VMs that speak HTTP; the sixth, Redis, is a real Redis behind the delay proxy."""

import asyncio
import json
from collections.abc import Mapping

from starlette.types import Receive, Scope, Send

__all__ = ["HTTP_VMS", "VM_ORDER", "VmsApp"]

HTTP_VMS = {
    "Main": ("/api/health", 1.0),
    "Frontend": ("/", 0.7),
    "NPU": ("/health", 1.3),
    "AI-Stack": ("/health", 1.5),
    "Browser": ("/health", 0.9),
}
"""Path of the health endpoint of each VM, and its delay as a multiple of the VM delay."""

VM_ORDER = ("Main", "Frontend", "NPU", "Redis", "AI-Stack", "Browser")


class VmsApp:
    """One ASGI application for all VMs: the port that a request came in at says which VM it is meant for.

    For a server without lifespan.
    """

    def __init__(self, name_of_port: Mapping[int, str], vm_delay_s: float) -> None:
        self._name_of_port = name_of_port
        self._vm_delay_s = vm_delay_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._name_of_port[scope["server"][1]]
        path, factor = HTTP_VMS[name]
        known = scope["path"] == path and scope["method"] in ("GET", "HEAD")
        if known:
            await asyncio.sleep(self._vm_delay_s * factor)
        body = json.dumps({"status": "healthy" if known else "not found", "vm": name}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200 if known else 404, "headers": headers})
        await send({"type": "http.response.body", "body": body})
