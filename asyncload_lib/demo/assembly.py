"""How the demo is put together: which processes, on which sockets, and when they are ready."""

import argparse
import http.client
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import urljoin, urlsplit

from asyncload_lib.demo.children import Children
from asyncload_lib.demo.ledger import Ledger
from asyncload_lib.demo.ledger_server import LedgerBook, serve_ledger
from asyncload_lib.demo.redis_server import is_answering, redis_command, reserve_port
from asyncload_lib.demo.serve import BACKLOG
from asyncload_lib.demo.vms import HTTP_VMS, VM_ORDER
from asyncload_lib.errors import TargetError

__all__ = ["PORTS", "assemble"]

ROLES = ("backend", "blocking")

PORTS = (*ROLES, "redis", *HTTP_VMS)
"""What listens, in the order of the ports."""

START_TIMEOUT_S = 30.0

Pause = Callable[[float], None]


def assemble(children: Children, options: argparse.Namespace, pause: Pause) -> dict[str, Any]:
    """Start all processes, wait until every one of them answers, and return what a caller needs to know.

    `pause(seconds)` is called while waiting; it raises when a child has died. Listening sockets are made here and
    handed over, so that no port is guessed, and a request that comes before its server is up waits in the kernel.
    """
    demo, probe_path = options.settings.demo, options.settings.loop.probe_path
    sockets = {name: _listen(options.port and options.port + number) for number, name in enumerate(PORTS)}
    host_urls = {role: _url(sockets[role]) for role in ROLES}
    vm_urls = {name: _url(sockets[name]) + path for name, (path, *_) in HTTP_VMS.items()}
    redis_url = f"redis://127.0.0.1:{_port(sockets['redis'])}/0"
    ledgers = {role: Ledger.create(children.directory / f"ledger-{role}") for role in ROLES}
    token = options.settings.loop.probe_token or secrets.token_urlsafe(16)
    backend = {
        "redis_url": redis_url,
        "directory": str(children.directory),
        "probe_token": token,
        "probe_path": probe_path,
        "model_time_s": demo.model_time,
        "faults": options.faults,
    }

    redis_port = _start_redis(children, pause)
    proxy = {"upstream_port": redis_port, "delay_s": demo.network_delay}
    children.start_python("proxy", "proxy", [sockets["redis"]], proxy)
    for role in ROLES:
        mode = demo.mode if role == "backend" else "blocking"
        children.start_python(role, "backend", [sockets[role]], {"role": role, "mode": mode, **backend})
    vms = {"names": list(HTTP_VMS), "vm_delay_s": demo.vm_delay}
    children.start_python("vms", "vms", [sockets[name] for name in HTTP_VMS], vms)
    # None of these waits for a simulated delay: the VMs know no such page, and a backend answers once it has Redis.
    for url in (
        *(urljoin(url, "/ready") for url in vm_urls.values()),
        *(f"{url}/api/health" for url in host_urls.values()),
    ):
        _wait_until(partial(_answers, url), url, pause)

    book = LedgerBook(ledgers, redis_port)
    book.reset()
    return {
        "ready": True,
        "host": host_urls["backend"],
        "blocking_host": host_urls["blocking"],
        "redis_url": redis_url,
        "redis_direct_url": f"redis://127.0.0.1:{redis_port}/0",
        "vms": [_vm(name, vm_urls, redis_url) for name in VM_ORDER],
        "ledger_url": serve_ledger(book),
        "probe_token": token,
        "probe_path": probe_path,
        "pids": children.pids,
        "directory": str(children.directory),
        "simulated": {name: getattr(demo, name) for name in ("model_time", "network_delay", "vm_delay")},
    }


def _vm(name: str, http_urls: Mapping[str, str], redis_url: str) -> dict[str, str]:
    if name in http_urls:
        return {"name": name, "kind": "http", "url": http_urls[name]}
    return {"name": name, "kind": "redis", "url": redis_url}


def _start_redis(children: Children, pause: Pause) -> int:
    with reserve_port() as reserved:
        port = _port(reserved)
        children.start("redis", redis_command(port))
        _wait_until(lambda: is_answering(port), "redis-server", pause)
    return port


def _wait_until(condition: Callable[[], bool], what: str, pause: Pause) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    pause(0.0)  # a signal may have come while it was started, though it answers at once
    while not condition():
        if time.monotonic() > deadline:
            raise TargetError(f"{what} did not answer within {START_TIMEOUT_S:g} s")
        pause(0.01)


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=1.0)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status < 500
    except OSError:  # not up yet, or reset by a child that died: `pause` finds out
        return False
    finally:
        connection.close()


def _listen(port: int = 0) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError as error:
        sock.close()
        raise TargetError(f"port {port} cannot be used: {error.strerror}") from error
    sock.listen(BACKLOG)
    return sock


def _port(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def _url(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{_port(sock)}"
