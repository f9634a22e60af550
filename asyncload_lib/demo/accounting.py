"""The ASGI middleware that writes every chat request into the ledger."""

from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asyncload_lib.demo.ledger import PATHS, Entry, Ledger

__all__ = ["REQUEST_ID", "LedgerMiddleware"]

REQUEST_ID = "X-Request-ID"
_PATH_INDEX = {path: index for index, path in enumerate(PATHS)}


class LedgerMiddleware:
    """Count each request of `PATHS` as received, then as answered, failed or disconnected.

    answered: a complete response below 400. failed: 400 and above, an exception, or `request.state.failed` set by the
    handler. disconnected: the client was gone before the last byte was handed over. The outcome is written *before* the
    last byte is sent, so that a client that has its answer finds it in the ledger.
    """

    def __init__(self, app: ASGIApp, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _PATH_INDEX.get(scope["path"]) if scope["type"] == "http" else None
        if path is None:
            await self._app(scope, receive, send)
            return
        request_id = Headers(scope=scope).get(REQUEST_ID) or uuid4().hex
        exchange = _Exchange(self._ledger, self._ledger.received(path, request_id), request_id, scope, receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            exchange.settle("disconnected" if exchange.client_gone else "failed")


class _Exchange:
    """One request on its way; `settle` counts it once, and its first outcome stands."""

    def __init__(
        self, ledger: Ledger, entry: Entry, request_id: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.client_gone = False
        self._ledger = ledger
        self._entry: Entry | None = entry
        self._request_id = request_id
        self._scope = scope
        self._receive = receive
        self._send = send
        self._failed = False
        self._state = scope.setdefault("state", {})

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.client_gone = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._failed = message["status"] >= 400
            MutableHeaders(scope=message)[REQUEST_ID] = self._request_id
            # The server does not tell a sender that the client has gone, so it is asked: here, and not before the last
            # byte, where the question would separate headers and body in two writes. A stream listens all the time.
            if await Request(self._scope, self._receive).is_disconnected():
                self.client_gone = True
        elif not message.get("more_body", False):
            self.settle(self._outcome())
        await self._send(message)

    def settle(self, outcome: str) -> None:
        if self._entry is not None:
            self._ledger.settle(self._entry, outcome)
            self._entry = None

    def _outcome(self) -> str:
        if self.client_gone:
            return "disconnected"
        return "failed" if self._failed or self._state.get("failed") else "answered"
