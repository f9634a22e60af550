"""One child process of the demo: `python -m asyncload_lib.demo.serve '<json>'`; started by the supervisor alone.

The JSON names the kind of child, its listening sockets (file descriptors that are inherited) and its options.
"""

import json
import socket
import sys
from typing import Any, Literal

__all__ = ["BACKLOG", "main"]

BACKLOG = 2048
"""Connections that may wait to be accepted; more than any burst of the suite opens."""
KEEP_ALIVE_S = 120
"""Longer than any client keeps an idle connection, so that no request meets a connection that is being closed."""


def _serve_http(app: Any, sockets: list[socket.socket], lifespan: Literal["on", "off"]) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="auto",  # httptools, where it is installed
        ws="none",
        lifespan=lifespan,
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run(sockets=sockets)


def _backend(sockets: list[socket.socket], options: dict[str, Any]) -> None:
    from asyncload_lib.demo.app import BackendOptions, create_app

    _serve_http(create_app(BackendOptions(**options)), sockets, lifespan="on")


def _vms(sockets: list[socket.socket], options: dict[str, Any]) -> None:
    from asyncload_lib.demo.vms import VmsApp

    name_of_port = {sock.getsockname()[1]: name for sock, name in zip(sockets, options["names"], strict=True)}
    _serve_http(VmsApp(name_of_port, options["vm_delay_s"]), sockets, lifespan="off")


def _proxy(sockets: list[socket.socket], options: dict[str, Any]) -> None:
    import uvloop

    from asyncload_lib.demo.proxy import serve_proxy

    async def serve() -> None:
        server = await serve_proxy(sockets[0], ("127.0.0.1", options["upstream_port"]), options["delay_s"])
        await server.serve_forever()

    uvloop.run(serve())


def main(argv: list[str]) -> None:
    """Serve until a signal comes."""
    order = json.loads(argv[0])
    sockets = [socket.socket(fileno=fd) for fd in order["fds"]]
    {"backend": _backend, "vms": _vms, "proxy": _proxy}[order["kind"]](sockets, order["options"])


if __name__ == "__main__":
    main(sys.argv[1:])
