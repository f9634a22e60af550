"""The ledger against what clients know: exact, under concurrent load, for every way a request can end."""

import asyncio
import http.client
import json
import socket
from urllib.parse import urlsplit

import uvloop
from pyreqwest.client import Client, ClientBuilder

from asyncload_lib.demo.stack import DemoStack
from tests.demo.processes import wait_until
from tests.demo.web import ask

REQUESTS = 300
CONCURRENCY = 50


def test_the_ledger_equals_what_the_clients_saw_under_load(stack: DemoStack) -> None:
    outcomes: dict[str, str] = {}

    async def ask_one(client: Client, number: int) -> None:
        request_id = f"load-{number}"
        fault = "?fault=status:500" if number % 7 == 0 else ""
        path = ("/api/chat", "/api/chat/stream")[number % 2]
        request = client.post(f"{stack.host}{path}{fault}").header("X-Request-ID", request_id)
        response = await request.body_json({"message": "m", "session_id": f"s{number % 20}"}).build().send()
        await response.bytes()
        outcomes[request_id] = "answered" if response.status == 200 else "failed"

    async def load() -> None:
        limit = asyncio.Semaphore(CONCURRENCY)
        async with ClientBuilder().build() as client:

            async def one(number: int) -> None:
                async with limit:
                    await ask_one(client, number)

            await asyncio.gather(*(one(number) for number in range(REQUESTS)))

    uvloop.run(load())
    ledger, ids = stack.ledger(), stack.ledger_ids()
    failed = len(range(0, REQUESTS, 7))
    assert ids == {"ids": {"backend": outcomes, "blocking": {}}, "complete": True}
    totals = {name: value for name, value in ledger["chat"].items() if name != "by_path"}
    assert totals == {
        "received": REQUESTS,
        "answered": REQUESTS - failed,
        "failed": failed,
        "disconnected": 0,
        "duplicates": 0,
        "in_flight": 0,
    }
    assert sum(counts["received"] for counts in ledger["chat"]["by_path"].values()) == REQUESTS
    assert ledger["backends"]["blocking"]["received"] == 0
    # One read and one write of the history for every answered request, none for the others.
    assert ledger["redis"]["commands"]["lrange"] == REQUESTS - failed
    assert ledger["redis"]["commands"]["rpush"] == 2 * (REQUESTS - failed)


def test_an_id_is_made_up_when_none_came_and_duplicates_are_counted(stack: DemoStack, host: str) -> None:
    made_up = ask("POST", f"{host}/api/chat", {"message": "x"})[2]["x-request-id"]
    for _ in range(3):
        ask("POST", f"{host}/api/chat", {"message": "x"}, {"X-Request-ID": "thrice"})
    role = "backend" if host == stack.host else "blocking"
    assert set(stack.ledger_ids()["ids"][role]) == {made_up, "thrice"}
    assert stack.ledger()["backends"][role]["duplicates"] == 2


def test_plain_health_is_not_in_the_ledger_and_chat_health_is(stack: DemoStack) -> None:
    ask("GET", f"{stack.host}/api/health")
    assert stack.ledger()["chat"]["received"] == 0
    ask("GET", f"{stack.host}/api/chat/health")
    assert stack.ledger()["chat"]["by_path"]["/api/chat/health"]["answered"] == 1


def test_a_client_that_leaves_is_disconnected(stack: DemoStack) -> None:
    for path in ("/api/chat?fault=delay:0.2", "/api/chat/stream?chunks=50&gap_s=0.01"):
        stack.reset_ledger()
        with _begin(stack.host, path):
            assert wait_until(lambda: stack.ledger()["chat"]["in_flight"] == 1)
        assert wait_until(lambda: stack.ledger()["chat"]["disconnected"] == 1), path
        assert stack.ledger()["chat"]["in_flight"] == stack.ledger()["chat"]["answered"] == 0


def test_the_ledger_is_readable_while_the_blocking_backend_blocks(stack: DemoStack) -> None:
    with _begin(stack.blocking_host, "/api/chat?fault=delay:0.5") as connection:
        assert wait_until(lambda: stack.ledger()["backends"]["blocking"]["in_flight"] == 1)
        connection.settimeout(10)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert (response.status, json.loads(response.read())["success"]) == (200, True)
    assert stack.ledger()["backends"]["blocking"]["answered"] == 1


def _begin(host: str, path: str) -> socket.socket:
    body = json.dumps({"message": "x"}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    connection = socket.create_connection((urlsplit(host).hostname, urlsplit(host).port))
    connection.sendall(head.encode() + body)
    return connection
