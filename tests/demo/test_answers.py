import http.client
import itertools
import json
import time
from urllib.parse import urlsplit

import pytest

from asyncload_lib.demo.stack import DemoStack
from tests.demo.web import ask, events


def test_a_stream_is_start_chunks_end(host: str) -> None:
    body = {"message": "tell me", "session_id": f"stream-{host}"}
    status, raw, headers = ask("POST", f"{host}/api/chat/stream?chunks=7&gap_s=0.002", body)
    received = events(raw)
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert [event["type"] for event in received] == ["start", *["chunk"] * 7, "end"]
    assert [event["index"] for event in received] == list(range(9))
    text = "".join(event["content"] for event in received if event["type"] == "chunk")
    assert text == received[-1]["content"] == "Answer after 0 earlier messages to: tell me"
    assert received[0]["session_id"] == received[-1]["session_id"] == body["session_id"]
    assert received[0]["message_id"] == received[-1]["message_id"]


def test_a_streamed_turn_enters_the_history(host: str) -> None:
    body = {"message": "again", "session_id": f"streamed-turns-{host}"}
    for earlier in (0, 2):
        _, raw, _ = ask("POST", f"{host}/api/chat/stream?chunks=1&gap_s=0", body)
        assert events(raw)[-1]["content"].startswith(f"Answer after {earlier} ")


def test_sent_times_are_the_servers_and_keep_the_gap(stack: DemoStack) -> None:
    before_epoch, before = time.time(), time.perf_counter()
    _, raw, _ = ask("POST", f"{stack.host}/api/chat/stream?chunks=5&gap_s=0.02", {"message": "x"})
    after_epoch, after = time.time(), time.perf_counter()
    sent = [event["sent_monotonic"] for event in events(raw)]
    assert before < sent[0] < sent[-1] < after
    assert before_epoch < events(raw)[0]["sent_at"] < events(raw)[-1]["sent_at"] < after_epoch
    gaps = [late - early for early, late in itertools.pairwise(sent[:6])]
    assert min(gaps) >= 0.018  # uvloop's timers count milliseconds


@pytest.mark.chance
def test_events_leave_the_async_backend_when_they_are_made(stack: DemoStack) -> None:
    connection = http.client.HTTPConnection(urlsplit(stack.host).netloc, timeout=30)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/api/chat/stream?chunks=4&gap_s=0.15", json.dumps({"message": "x"}), headers)
    response = connection.getresponse()
    held_s = []
    while line := response.readline():
        if line.startswith(b"data: "):
            held_s.append(time.perf_counter() - json.loads(line[6:])["sent_monotonic"])
    connection.close()
    assert len(held_s) == 6
    assert sorted(held_s)[3] < 0.1  # held back until the end, most of them would be 0.15 to 0.6 s old


def test_chunks_and_gap_are_bounded(stack: DemoStack) -> None:
    for query in ("chunks=0", "chunks=10001", "gap_s=-1", "gap_s=11", "gap_s=nan"):
        assert ask("POST", f"{stack.host}/api/chat/stream?{query}", {"message": "x"})[0] == 422, query


def test_a_stream_takes_the_model_time_when_nothing_else_is_asked_for(stack: DemoStack) -> None:
    _, raw, _ = ask("POST", f"{stack.host}/api/chat/stream", {"message": "x"})
    received = events(raw)
    assert received[-1]["sent_monotonic"] - received[0]["sent_monotonic"] >= 0.9 * stack.simulated["model_time"]
