"""The probe that a target mounts: a loop monitor in each worker, and one path that reads and resets them.

    app.add_middleware(LoopProbe, token="...", path="/asyncload/loop")      # FastAPI, Starlette
    app = LoopProbe(app, token="...")                                       # any ASGI application

`GET <path>` gives the findings of all workers of the server, `POST <path>/reset` begins anew in all of them, with
`?limit_s=0.05&period_s=0.003` under these limits; both want the header `X-Asyncload-Token`. Standard library only:
neither locust nor gevent comes into the target.
"""

import asyncio
import hmac
import inspect
import json
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter_ns
from types import FunctionType, MethodType
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from .lag import LIMIT_S, PERIOD_S, SHORTEST_LIMIT_S, LoopMonitor
from .siblings import Siblings

__all__ = ["TOKEN_HEADER", "LoopProbe", "Probe"]

logger = logging.getLogger(__name__)

TOKEN_HEADER = "X-Asyncload-Token"
VISIBLE = re.compile(r"[!-~]+")
SHORTEST_PERIOD_S, LONGEST_S = 0.001, 60.0
"""Bounds of what a reset may bring: those of the settings `loop.period` and `loop.limit`."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


Called = TypeVar("Called", bound=Callable[..., Awaitable[None]])


def _awaited(function: Called) -> Called:
    """Mark a function whose result is to be awaited, for servers that tell ASGI 2 from ASGI 3 by that (as asgiref)."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


def _bound(app: Application) -> Application:
    """Return the bound `__call__` of an object: CPython would look it up in the class for each request."""
    call = inspect.getattr_static(type(app), "__call__", None)
    return MethodType(call, app) if isinstance(call, FunctionType) else app


def LoopProbe(  # noqa: N802 - mounted where a middleware class is expected
    app: Application, token: str, path: str = "/asyncload/loop", limit_s: float = LIMIT_S, period_s: float = PERIOD_S
) -> Application:
    """ASGI middleware that watches the loop it runs on, from the lifespan's start or the first request.

    `limit_s` and `period_s` are the monitor's, until a reset brings others. Raises ValueError without a token (findings
    name source lines), for a token or a path that no request could carry, and as `LoopMonitor` does.
    """
    return Probe(app, token, path, limit_s, period_s).middleware()


class Probe:
    """What `LoopProbe` mounts: the monitor of this worker, its siblings, and the answers of both."""

    def __init__(self, app: Application, token: str, path: str, limit_s: float, period_s: float) -> None:
        if not token:
            raise ValueError("LoopProbe needs a token: its findings name source lines")
        if not isinstance(token, str) or not VISIBLE.fullmatch(token):
            raise ValueError("the token of LoopProbe must be a text of visible ASCII characters, without spaces")
        if not isinstance(path, str) or not VISIBLE.fullmatch(path.strip("/")):
            raise ValueError(f"path is {path!r}: it must be of visible ASCII characters and not the root itself")
        self._app = app
        self._token = token.encode()
        self._path = "/" + path.strip("/")
        self._limit_s = limit_s
        self._period_s = period_s
        self._used = (limit_s, period_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.monitor = LoopMonitor("target", limit_s, period_s)
        self._siblings: Siblings | None = None

    def middleware(self) -> Application:
        """Return the application that is served instead of the one that is watched."""
        app, own_path, pulse = self._app, self._path, self.monitor.pulse

        # Every request pays for each line. A plain function that hands the application's own coroutine on (one of its
        # own would cost 1 us), and a closure (an object with `__call__` would cost 0.1 us).
        @_awaited
        def watched(scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
            nonlocal app, pulse
            if pulse.wants_signs:
                before_ns = pulse.begun_ns
                pulse.begun_ns = now = perf_counter_ns()  # a server begins each request in a callback of its own
                if now > pulse.quiet_ns:
                    is_watched, pulse = self._is_watched(now, before_ns), self.monitor.pulse
                    if not is_watched:
                        app = _bound(self._app)  # whoever replaces a class's `__call__` does so before it serves
                        return self._first(scope, receive, send)
            try:
                path = scope["path"]
            except KeyError:
                return self._lifespan(scope, receive, send)
            if own_path in path and scope["type"] == "http" and self._own_path(scope) is not None:
                return self._answer(scope, send)
            return app(scope, receive, send)

        return watched

    def _own_path(self, scope: Message) -> str | None:
        """Return what is asked of the probe, "" or "/reset", behind the prefix that a server or a mount may put before
        all paths; None if it is not asked.
        """
        path: str = scope["path"]
        root: str = scope.get("root_path") or ""  # optional in ASGI: a server may leave it out, or say None
        if path.startswith(f"{root}/"):
            path = path[len(root) :]
        rest = path.removeprefix(self._path)
        return rest if path.startswith(self._path) and rest in ("", "/reset") else None

    def _is_watched(self, now: int, before_ns: int) -> bool:
        """Tell the monitor that the loop goes on, and whether it is this loop that was meant to be watched."""
        return self.monitor.came_alive(now, before_ns) or self._loop is asyncio.get_running_loop()

    async def _lifespan(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._loop is not asyncio.get_running_loop():  # a server that begins anew, on another loop
            await self._try_to_start()
        await self._app(scope, receive, self._until_shutdown(send))

    async def _first(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._try_to_start()
        await self.middleware()(scope, receive, send)

    async def _try_to_start(self) -> None:
        try:
            await self._start()
        except Exception:  # as where no thread can be started; the findings say then that nothing was watched
            logger.exception("the loop probe could not start; the application goes on without it")

    async def _start(self) -> None:
        self._stop()
        self._loop = asyncio.get_running_loop()
        self._siblings = Siblings(f"{self._path} {self._token.hex()}", self._own)
        await self._siblings.open()
        self._watch(self._limit_s, self._period_s)

    def _watch(self, limit_s: float, period_s: float) -> None:
        """Begin anew under these limits."""
        if (limit_s, period_s) != self._used:
            self.monitor.stop()
            self._used = (limit_s, period_s)
            self.monitor = LoopMonitor("target", limit_s, period_s)
        if self.monitor.running:
            self.monitor.reset()
        else:
            self.monitor.start()

    def _stop(self) -> None:
        self.monitor.stop()
        if self._siblings is not None:
            self._siblings.close()
        self._loop = self._siblings = None

    def _until_shutdown(self, send: Send) -> Send:
        async def watched(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"):
                self._stop()
            await send(message)

        return watched

    async def _own(self, command: str) -> dict[str, Any]:
        if command.startswith("reset"):
            limit_s, period_s = map(float, command.split()[1:])
            self._watch(limit_s, period_s)
            return {"pid": os.getpid(), "reset": True, "limit_s": limit_s, "period_s": period_s}
        return {"pid": os.getpid(), **self.monitor.report()}

    async def _answer(self, scope: Message, send: Send) -> None:
        given = dict(scope["headers"]).get(TOKEN_HEADER.lower().encode(), b"")
        if not hmac.compare_digest(given, self._token):
            await _send_json(send, 401, {"error": f"{TOKEN_HEADER} is missing or wrong"})
            return
        reset = self._own_path(scope) == "/reset"
        if scope["method"] != ("POST" if reset else "GET"):
            await _send_json(send, 405, {"error": "GET reads, POST .../reset begins anew"})
            return
        try:
            command = "reset {} {}".format(*self._limits(scope.get("query_string", b""))) if reset else "report"
        except ValueError:
            words = (
                f"allowed is limit_s from {SHORTEST_LIMIT_S} to {LONGEST_S}, period_s from {SHORTEST_PERIOD_S} to it"
            )
            await _send_json(send, 400, {"error": words})
            return
        if self._loop is not asyncio.get_running_loop():  # the one that was watched is out of use, though not closed
            await self._start()
        assert self._siblings is not None
        if reset:
            self._siblings.look_where_it_listens()  # before: what it takes is no part of the measurement
        own = await self._own(command)
        others = await self._siblings.ask(command, _port(scope))
        everyone = sorted([own, *others], key=lambda answer: answer["pid"] or 0)
        for number, answer in enumerate(everyone, 1):
            answer["worker"] = number
        await _send_json(send, 200, {**own, "workers": everyone, "problem": self._siblings.problem})

    def _limits(self, query: bytes) -> tuple[float, float]:
        given = dict(parse_qsl(query.decode("ascii")))
        limit_s, period_s = float(given.get("limit_s", self._limit_s)), float(given.get("period_s", self._period_s))
        is_allowed = SHORTEST_LIMIT_S <= limit_s <= LONGEST_S and SHORTEST_PERIOD_S <= period_s <= limit_s
        if given and not is_allowed:  # nor is NaN
            raise ValueError(query)
        return limit_s, period_s


def _port(scope: Message) -> int | None:
    """Return the port at which the request came in, if the server says so."""
    match scope.get("server"):
        case [_, int(port)]:
            return port
    return None


async def _send_json(send: Send, status: int, content: Any) -> None:
    body = json.dumps(content, allow_nan=False).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
