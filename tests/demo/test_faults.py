import http.client
import json
import time

import pytest
from fastapi import HTTPException

from asyncload_lib.demo.faults import FAULTS, Fault, parse_fault
from asyncload_lib.demo.stack import DemoStack
from tests.demo.web import ask, events

PATHS = ("/api/chat", "/api/chat/stream")


def _ask(stack: DemoStack, path: str, fault: str) -> tuple[int, bytes]:
    separator = "&chunks=4&gap_s=0" if path.endswith("stream") else ""
    return ask("POST", f"{stack.host}{path}?fault={fault}{separator}", {"message": "x"})[:2]


def _counts(stack: DemoStack, path: str) -> tuple[int, int]:
    counts = stack.ledger()["chat"]["by_path"][path]
    return counts["answered"], counts["failed"]


@pytest.mark.parametrize("path", PATHS)
def test_status(stack: DemoStack, path: str) -> None:
    assert _ask(stack, path, "status:429")[0] == 429
    assert _ask(stack, path, "status")[0] == 503
    assert _counts(stack, path) == (0, 2)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", ["delay:0.3", "block:0.3"])
def test_delay_and_block_answer_later(stack: DemoStack, path: str, fault: str) -> None:
    began = time.perf_counter()
    assert _ask(stack, path, fault)[0] == 200
    assert time.perf_counter() - began >= 0.3
    assert _counts(stack, path) == (1, 0)


@pytest.mark.parametrize("path", PATHS)
def test_break_ends_the_body_in_the_middle(stack: DemoStack, path: str) -> None:
    with pytest.raises(http.client.IncompleteRead) as broken:
        _ask(stack, path, "break")
    received = broken.value.partial
    if path.endswith("stream"):
        assert [event["type"] for event in events(received)] == ["start", "chunk", "chunk"]
    else:
        assert received.startswith(b'{"success": true')
        with pytest.raises(json.JSONDecodeError):
            json.loads(received)
    assert _counts(stack, path) == (0, 1)


def test_error(stack: DemoStack) -> None:
    status, body = _ask(stack, "/api/chat", "error")
    assert (status, json.loads(body)["success"]) == (200, False)
    status, body = _ask(stack, "/api/chat/stream", "error")
    assert (status, [event["type"] for event in events(body)]) == (200, ["start", "chunk", "chunk", "error"])
    assert _counts(stack, "/api/chat") == _counts(stack, "/api/chat/stream") == (0, 1)


def test_no_end(stack: DemoStack) -> None:
    status, body = _ask(stack, "/api/chat/stream", "no_end")
    assert (status, [event["type"] for event in events(body)]) == (200, ["start", "chunk", "chunk"])
    assert _counts(stack, "/api/chat/stream") == (0, 1)


@pytest.mark.parametrize(
    "fault", ["nonsense", "status:200", "status:x", "delay:-1", "delay:31", "delay:nan", "break:1"]
)
def test_a_fault_that_cannot_be_is_refused(stack: DemoStack, fault: str) -> None:
    assert _ask(stack, "/api/chat", fault)[0] == 400


def test_faults_are_off_unless_the_demo_was_started_with_them() -> None:
    assert parse_fault(None, allowed=False) == Fault()
    for name in FAULTS:
        with pytest.raises(HTTPException, match="--faults") as refused:
            parse_fault(name, allowed=False)
        assert refused.value.status_code == 400
