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

from .heartbeat import LIMIT_S, PERIOD_S, SHORTEST_LIMIT_S
from .lag import LoopMonitor
from .served import ServedLoop, begins_here
from .stall import Pulse

__all__ = ["TOKEN_HEADER", "LoopProbe", "Probe"]

logger = logging.getLogger(__name__)

TOKEN_HEADER = "X-Asyncload-Token"
VISIBLE = re.compile(r"[!-~]+")
SHORTEST_PERIOD_S, LONGEST_S = 0.001, 60.0
"""Bounds of what a reset may bring: those of the settings `loop.period` and `loop.limit`."""

NO_LOOP = "the server does not run the application on a loop of asyncio or uvloop"

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

    `limit_s` and `period_s` are the monitor's, until a reset brings others. Raises ValueError without a token (needed
    because the findings name source lines), for a token or a path that no request could carry, and like `LoopMonitor`.
    """
    return Probe(app, token, path, limit_s, period_s).middleware()


class Probe:
    """What `LoopProbe` mounts: the loops of this process that serve the application, and the answers for them."""

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
        self._idle = LoopMonitor("target", limit_s, period_s)
        self._served: list[ServedLoop] = []

    @property
    def monitor(self) -> LoopMonitor:
        """The monitor of the loop that began to serve last; one that never ran if none has."""
        return self._served[-1].monitor if self._served else self._idle

    def middleware(self) -> Application:
        """Return the application that is served instead of the one that is watched."""
        app, own_path, pulse = self._app, self._path, Pulse(0, 0)

        # Every request pays for each line. So this is a plain function that hands on the application's own coroutine
        # (one of its own would cost 1 us), and a closure (an object with `__call__` would cost 0.1 us).
        @_awaited
        def watched(scope: Message, receive: Receive, send: Send) -> Awaitable[None]:
            nonlocal app, pulse
            if pulse.wants_signs:
                before_ns = pulse.begun_ns
                pulse.begun_ns = now = perf_counter_ns()
                if now > pulse.quiet_ns:
                    current = self._pulse_here(pulse, now, before_ns)
                    if current is None:
                        app = _bound(self._app)  # from here on nobody replaces its class's `__call__` any more
                        return self._first(scope, receive, send)
                    pulse = current
            try:
                path = scope["path"]
            except KeyError:
                return self._lifespan(scope, receive, send)
            if own_path in path and scope["type"] == "http" and self._own_path(scope) is not None:
                return self._answer(scope, send)
            return app(scope, receive, send)

        return watched

    def _own_path(self, scope: Message) -> str | None:
        """Return what is asked of the probe, "" or "/reset"; None if the request is not for it.

        A server or a mount may have put a prefix (`root_path`) before all paths.
        """
        path: str = scope["path"]
        root: str = scope.get("root_path") or ""  # optional in ASGI: a server may leave it out, or say None
        if path.startswith(f"{root}/"):
            path = path[len(root) :]
        rest = path.removeprefix(self._path)
        return rest if path.startswith(self._path) and rest in ("", "/reset") else None

    def _here(self) -> ServedLoop | None:
        loop = _running_loop()
        return next((served for served in [*self._served] if served.loop is loop), None)

    def _pulse_here(self, known: Pulse, now: int, before_ns: int) -> Pulse | None:
        """Give the loop's monitor a sign of life, if this request is one; return its pulse, None on a new loop."""
        known.begun_ns = before_ns
        if _running_loop() is None:
            logger.warning("the loop probe watches nothing: %s", NO_LOOP)
            return Pulse(0, 0, wants_signs=False)
        served = self._here()
        if served is None:
            return None
        pulse = served.monitor.pulse
        if pulse is not known and not begins_here(sys._getframe(2), pulse.base):
            served.give_no_signs()
        if served.gives_signs:
            served.monitor.came_alive(now, pulse.begun_ns)
        return pulse

    async def _lifespan(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._here() is None and _running_loop() is not None:
            await self._try_to_start()
        await self._app(scope, receive, self._until_shutdown(send))

    async def _first(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._try_to_start()
        await self.middleware()(scope, receive, send)

    async def _try_to_start(self) -> None:
        try:
            await self._start()
        except Exception:  # for example, no thread can be started; the findings then say that nothing was watched
            logger.exception("the loop probe could not start; the application goes on without it")

    async def _start(self) -> ServedLoop:
        for served in [*self._served]:
            if served.is_over and served in self._served:  # a server that begins anew, on another loop
                self._served.remove(served)
                served.stop()
        key = f"{self._path} {self._token.hex()}"
        here = ServedLoop(asyncio.get_running_loop(), key, self._limit_s, self._period_s)
        self._served.append(here)  # in one step: the other loops are in other threads
        if len(self._served) > 1:  # a request would have to find out which loop it is on, each time
            for served in [*self._served]:
                served.give_no_signs()
        await here.start()
        return here

    def _stop(self) -> None:
        served = self._here()
        if served is not None:
            self._served.remove(served)
            served.stop()

    def _until_shutdown(self, send: Send) -> Send:
        async def watched(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"):
                self._stop()
            await send(message)

        return watched

    async def _answer(self, scope: Message, send: Send) -> None:
        given = dict(scope["headers"]).get(TOKEN_HEADER.lower().encode(), b"")
        if not hmac.compare_digest(given, self._token):
            await _send_json(send, 401, {"error": f"{TOKEN_HEADER} is missing or wrong"})
            return
        reset = self._own_path(scope) == "/reset"
        if scope["method"] != ("POST" if reset else "GET"):
            await _send_json(send, 405, {"error": "GET reads the findings, POST .../reset clears them"})
            return
        try:
            command = "reset {} {}".format(*self._limits(scope.get("query_string", b""))) if reset else "report"
        except ValueError:
            words = f"allowed is limit_s from {SHORTEST_LIMIT_S} to {LONGEST_S}, "
            words += f"period_s from {SHORTEST_PERIOD_S} to limit_s"
            await _send_json(send, 400, {"error": words})
            return
        if _running_loop() is None:
            silent = {"pid": os.getpid(), "worker": 1, "silent": NO_LOOP}
            await _send_json(send, 200, {**silent, "workers": [silent], "problem": NO_LOOP})
            return
        served = self._here() or await self._start()
        if reset:
            served.siblings.look_where_it_listens()  # now, so that the time it takes is not measured
        own = await served.own(command)
        others = await served.siblings.ask(command, _port(scope))
        everyone = sorted([own, *others], key=lambda answer: answer["pid"] or 0)
        for number, answer in enumerate(everyone, 1):
            answer["worker"] = number
        await _send_json(send, 200, {**own, "workers": everyone, "problem": served.siblings.problem})

    def _limits(self, query: bytes) -> tuple[float, float]:
        given = dict(parse_qsl(query.decode("ascii")))
        limit_s, period_s = float(given.get("limit_s", self._limit_s)), float(given.get("period_s", self._period_s))
        is_allowed = SHORTEST_LIMIT_S <= limit_s <= LONGEST_S and SHORTEST_PERIOD_S <= period_s <= limit_s
        if given and not is_allowed:  # nor is NaN
            raise ValueError(query)
        return limit_s, period_s


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


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
