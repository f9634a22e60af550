"""A plain HTTP client for the tests: one request, one connection."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit


def ask(method: str, url: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, bytes, Any]:
    """Return status, body and headers; `body` is sent as JSON unless it is bytes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} | (headers or {})
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), raw, sent)
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


def events(body: bytes) -> list[dict[str, Any]]:
    """Return the `data:` events of a finished stream."""
    return [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: ")]
