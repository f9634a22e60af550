"""The ledgers of all backends and the command counts of Redis over HTTP, from outside the processes under test."""

import json
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from asyncload_lib.demo.ledger import PATHS, Ledger
from asyncload_lib.demo.redis_server import command_counts

__all__ = ["LedgerBook", "serve_ledger"]


class LedgerBook:
    """All ledgers of one demo, by the role of the backend that writes them, and the command counts of its Redis."""

    def __init__(self, ledgers: Mapping[str, Ledger], redis_port: int) -> None:
        self._ledgers = ledgers
        self._redis_port = redis_port
        self._commands_before: dict[str, int] = {}

    def counts(self) -> dict[str, Any]:
        """Return `chat` (all backends together), `backends` (each alone) and `redis` (`commands`, None = gone)."""
        tables = {role: ledger.by_path() for role, ledger in self._ledgers.items()}
        together = {path: _sum(table[path] for table in tables.values()) for path in PATHS}
        return {
            "chat": _with_total(together),
            "backends": {role: _with_total(table) for role, table in tables.items()},
            "redis": {"commands": self._commands()},
        }

    def ids(self) -> dict[str, Any]:
        """Return `ids` (role -> request id -> last state) and `complete`: False when older ids had to go."""
        return {
            "ids": {role: ledger.ids() for role, ledger in self._ledgers.items()},
            "complete": all(ledger.ids_complete() for ledger in self._ledgers.values()),
        }

    def reset(self) -> dict[str, Any]:
        """Empty everything; requests that are in flight now are never counted."""
        for ledger in self._ledgers.values():
            ledger.reset()
        self._commands_before = command_counts(self._redis_port) or {}
        return {"reset": True}

    def _commands(self) -> dict[str, int] | None:
        counts = command_counts(self._redis_port)
        return None if counts is None else dict(Counter(counts) - Counter(self._commands_before))


def serve_ledger(book: LedgerBook) -> str:
    """Serve GET /ledger, GET /ledger/ids and POST /ledger/reset from a thread of this process; return the URL."""
    answers = {("GET", "/ledger"): book.counts, ("GET", "/ledger/ids"): book.ids, ("POST", "/ledger/reset"): book.reset}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get((self.command, self.path))
            body = json.dumps(answer() if answer else {"error": f"there are: {sorted(answers)}"}).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/ledger"


def _sum(tables: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return dict(total)


def _with_total(by_path: dict[str, dict[str, int]]) -> dict[str, Any]:
    return _sum(by_path.values()) | {"by_path": by_path}
