import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from asyncload_lib.demo.backends import HISTORY_LENGTH, HISTORY_TTL_S
from asyncload_lib.demo.stack import DemoStack
from tests.demo.conftest import MODEL_TIME_S, NETWORK_DELAY_S
from tests.demo.processes import wait_until
from tests.demo.web import ask


def test_health_says_which_mode_it_is(stack: DemoStack) -> None:
    assert json.loads(ask("GET", f"{stack.host}/api/health")[1]) == {"status": "healthy", "mode": "async"}
    assert json.loads(ask("GET", f"{stack.blocking_host}/api/health")[1])["mode"] == "blocking"


def test_chat_health_names_its_components(host: str) -> None:
    status, body, _ = ask("GET", f"{host}/api/chat/health")
    assert (status, json.loads(body)["components"]["redis"]) == (200, "up")


@pytest.mark.parametrize(
    "body", [{"message": "hello"}, {"content": "hello", "role": "user"}], ids=["message", "content"]
)
def test_chat_answers_both_forms_of_a_question(host: str, body: dict[str, str]) -> None:
    session = f"forms-{host}-{len(body)}"
    began = time.perf_counter()
    status, raw, headers = ask("POST", f"{host}/api/chat", body | {"session_id": session}, {"X-Request-ID": "mine"})
    took_s = time.perf_counter() - began
    answer = json.loads(raw)
    assert (status, headers["x-request-id"], answer["success"]) == (200, "mine", True)
    assert set(answer["data"]) == {"content", "role", "session_id", "message_id", "timestamp"}
    assert (answer["data"]["role"], answer["data"]["session_id"]) == ("assistant", session)
    # Two round trips to Redis and the model: less than this means that one of them was left out.
    assert took_s >= MODEL_TIME_S + 4 * NETWORK_DELAY_S


def test_history_is_read_back_bounded_and_expires(stack: DemoStack, host: str) -> None:
    session = f"history-{host}"
    for turn in range(HISTORY_LENGTH // 2 + 2):
        _, raw, _ = ask("POST", f"{host}/api/chat", {"message": f"m{turn}", "session_id": session})
        earlier = min(2 * turn, HISTORY_LENGTH)
        assert json.loads(raw)["data"]["content"] == f"Answer after {earlier} earlier messages to: m{turn}"
    with redis.Redis.from_url(stack.redis_direct_url) as client:
        key = f"chat:history:{session}"
        assert client.llen(key) == HISTORY_LENGTH
        assert json.loads(client.lindex(key, -2)) == {"role": "user", "content": f"m{HISTORY_LENGTH // 2 + 1}"}
        assert 0 < client.ttl(key) <= HISTORY_TTL_S


def test_every_answer_stands_in_the_transcript(stack: DemoStack, host: str) -> None:
    question = f"to be found again at {host}"
    ask("POST", f"{host}/api/chat", {"message": question})
    role = "backend" if host == stack.host else "blocking"
    lines = Path(stack.directory, f"transcript-{role}.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["question"] == question


@pytest.mark.parametrize(
    "body",
    [b"{not json", b"", {}, {"message": ""}, {"message": 7}, {"content": "x", "role": "robot"}, ["message"]],
    ids=["broken", "empty", "no message", "empty message", "number", "unknown role", "list"],
)
@pytest.mark.parametrize("path", ["/api/chat", "/api/chat/stream"])
def test_bad_input_is_refused(stack: DemoStack, path: str, body: object) -> None:
    status, raw, _ = ask("POST", stack.host + path, body)
    assert (status, "detail" in json.loads(raw)) == (422, True)
    assert stack.ledger()["chat"]["by_path"][path]["failed"] == 1


def test_unknown_paths_and_methods_are_refused(stack: DemoStack) -> None:
    assert ask("GET", f"{stack.host}/api/nothing")[0] == 404
    assert ask("GET", f"{stack.host}/api/chat")[0] == 405


def test_a_waiting_async_backend_answers_others_and_a_blocking_one_does_not(stack: DemoStack) -> None:
    assert _health_during_a_slow_chat(stack, stack.host, "backend") < 0.5
    assert _health_during_a_slow_chat(stack, stack.blocking_host, "blocking") >= 0.5


def _health_during_a_slow_chat(stack: DemoStack, host: str, role: str) -> float:
    """Ask for an answer of one second, and a moment later for a quick one; return how long the quick one took."""
    address = (urlsplit(host).hostname, urlsplit(host).port)
    slow, quick = socket.create_connection(address), socket.create_connection(address)
    body = json.dumps({"message": "slow"}).encode()
    head = b"POST /api/chat?fault=delay:1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with slow, quick:
        slow.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert wait_until(lambda: stack.ledger()["backends"][role]["in_flight"] == 1)
        began = time.perf_counter()
        quick.sendall(b"GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
        quick.settimeout(10)
        assert quick.recv(4096).startswith(b"HTTP/1.1 200")
        return time.perf_counter() - began


def test_the_probe_names_what_blocks_the_loop(stack: DemoStack) -> None:
    token = {"X-Asyncload-Token": stack.probe_token}
    blocking_calls = {"/api/chat?fault=block:0.2": stack.host, "/api/chat": stack.blocking_host}
    for path, host in blocking_calls.items():
        assert ask("POST", f"{host}/asyncload/loop/reset", headers=token)[0] == 200
        assert ask("POST", host + path, {"message": "x"})[0] == 200
        report = json.loads(ask("GET", f"{host}/asyncload/loop", headers=token)[1])
        assert report["blocked"], path
        assert "asyncload_lib/demo/" in report["culprits"][0]["file"], path
    assert ask("GET", f"{stack.host}/asyncload/loop")[0] == 401
