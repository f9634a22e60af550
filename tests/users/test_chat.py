"""Chat users judge answers and streams by what they hold, and date tokens by when they came."""

import gc
import json
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest
from locust import task
from locust.exception import StopUser

from asyncload_lib.demo.stack import DemoStack
from asyncload_lib.settings import Settings
from asyncload_lib.users.chat import ChatStreamUser, ChatUser
from tests.users.swarm import Swarm, derived, eventually, fetch

DEFAULT = Settings()
Chatting = TypeVar("Chatting", bound=ChatUser | ChatStreamUser)


def with_chat(**options: Any) -> Settings:
    return replace(DEFAULT, chat=replace(DEFAULT.chat, **options))


def once(base: type[Chatting], host: str, settings: Settings = DEFAULT, turns: int = 1) -> type[Chatting]:
    """A user of class `base` that takes that many turns."""

    async def work(self: Any) -> None:
        for _ in range(turns):
            await self.turn()
        raise StopUser

    user_class = derived(base, host=host, settings=settings, work=task(work))
    user_class.tasks = [work]
    return user_class


def answer(body: Any, status: int = 200) -> str:
    """A path of the scripted target that answers with this."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} Status\r\ncontent-length: {len(raw)}\r\n\r\n".encode()
    return f"/raw/{(head + raw).hex()}"


GOOD = {"success": True, "data": {"content": "hello", "role": "assistant"}}


@pytest.mark.parametrize(
    ("body", "status", "failure"),
    [
        (GOOD, 200, None),
        ({**GOOD, "success": False}, 200, "the answer says success is not true"),
        ({**GOOD, "success": 1}, 200, "the answer says success is not true"),
        ({"data": {"content": "x"}}, 200, "the answer says success is not true"),
        ([1], 200, "the answer says success is not true"),
        ({"success": True}, 200, "the answer has no content"),
        ({"success": True, "data": None}, 200, "the answer has no content"),
        ({"success": True, "data": {"content": ""}}, 200, "the answer has no content"),
        ({"success": True, "data": {"content": 7}}, 200, "the answer has no content"),
        (b"<html>", 200, "the answer is not JSON"),
        (b"[" * 20_000, 200, "the answer is not JSON"),
        (b"\xff\xfe", 200, "the answer is not JSON"),
        (b"", 200, "the answer is not JSON"),
        (GOOD, 503, "HTTP 503"),
    ],
)
def test_an_answer_is_good_when_it_says_so_and_holds_something(
    body: Any, status: int, failure: str | None, target: str
) -> None:
    with Swarm(once(ChatUser, target, with_chat(path=answer(body, status)))) as swarm:
        swarm.run()
    assert swarm.failures == ([failure] if failure else [])
    assert len(swarm.requests) == 1
    assert swarm.errors == []


@pytest.mark.parametrize("field", ["message", "content"])
def test_a_conversation_with_the_demo_is_in_its_ledger_word_by_word(demo: DemoStack, field: str) -> None:
    user_class = once(ChatUser, demo.host, with_chat(message_field=field), turns=4)
    user_class.run_id = "run-7"
    with Swarm(user_class) as swarm:
        swarm.run(10)
    assert swarm.failures == []
    assert len(swarm.requests) == 40
    assert demo.ledger()["chat"]["answered"] == 40
    ids = {name: state for states in demo.ledger_ids()["ids"].values() for name, state in states.items()}
    assert len(ids) == 40
    assert all(name.startswith("run-7-") for name in ids)


def test_given_headers_go_with_every_message(target: str) -> None:
    given = ("Authorization: Bearer abc", "X-One:1")
    user_class = once(ChatUser, target, with_chat(path="/echo", headers=given))
    seen: list[Any] = []
    with Swarm(user_class) as swarm:
        swarm.events.request.add_listener(lambda response, **_: seen.append(response.json()["headers"]))
        swarm.run()
    (headers,) = seen
    assert [pair for pair in headers if pair[0].lower() in ("authorization", "x-one")] == [
        ["Authorization", "Bearer abc"],
        ["X-One", "1"],
    ]


def test_request_and_session_names_are_never_used_twice() -> None:
    class Person(ChatUser):
        host = "http://127.0.0.1:9"

    with Swarm(Person) as swarm:
        names: list[str] = []
        for _ in range(50):
            person = Person(swarm.environment)
            names.append(person._headers()["x-request-id"])
            names.append(person._body()["session_id"])
            del person
            gc.collect()
    assert len(set(names)) == 100


def test_users_of_two_workers_say_different_things() -> None:
    class Person(ChatUser):
        host = "http://127.0.0.1:9"

    with Swarm(Person) as swarm:
        said = []
        for worker in (0, 1):
            swarm.runner.worker_index = worker
            said.append([Person(swarm.environment)._body()["message"] for _ in range(5)])
        first, again = Person(swarm.environment), Person(swarm.environment)
        first.take_place(3)
        again.take_place(3)
        assert first._body()["message"] == again._body()["message"]
    assert not set(said[0]) & set(said[1])


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("good", None),
        ("paced", None),
        ("crlf", None),
        ("cr", None),
        ("split", None),
        ("comments", None),
        ("bom", None),
        ("many_lines", None),
        ("cut", "the answer broke off"),
        ("no_end", "the stream ended without `end`"),
        ("end_then_more", "the stream ended without `end`"),
        ("unfinished_end", "the stream ended without `end`"),
        ("empty", "the stream ended without `end`"),
        ("error", "the stream carried an error: model fell over"),
        ("not_json", "the stream carried an event that is not JSON"),
        ("not_utf8", "the stream is not UTF-8"),
        ("huge", "the stream carried an event of more than 1048576 bytes"),
        ("no_token", "the stream held no token"),
    ],
)
def test_a_stream_is_good_when_it_ends_with_end(script: str, failure: str | None, target: str) -> None:
    with Swarm(once(ChatStreamUser, target, with_chat(stream_path=f"/stream/{script}"))) as swarm:
        swarm.run()
    (event,) = swarm.requests
    assert (event["exception"] is None) if failure is None else str(event["exception"]).startswith(failure)
    assert (event["request_type"], event["name"]) == ("POST", f"/stream/{script}")
    assert swarm.errors == []
    # Only of a good stream: a figure of a failed one is none to be proud of.
    assert [name for name, _ in swarm.metrics if name == "time_to_first_token"] == ([] if failure else [
        "time_to_first_token"
    ])  # fmt: skip


def test_a_stream_is_judged_by_its_status_first(target: str) -> None:
    for path, failure in (("/status/503", "HTTP 503"), ("/close", "connection closed before message completed")):
        with Swarm(once(ChatStreamUser, target, with_chat(stream_path=path))) as swarm:
            swarm.run()
        assert swarm.failures == [failure]


@pytest.mark.chance
def test_tokens_are_dated_by_when_they_came(target: str) -> None:
    """The target waits 60 ms before the first token and 40 ms before each of the four others."""
    with Swarm(once(ChatStreamUser, target, with_chat(stream_path="/stream/paced"), turns=5)) as swarm:
        swarm.run()
    first_ms = [values[0] / 1e3 for name, values in swarm.metrics if name == "time_to_first_token"]
    gaps_ms = [value / 1e3 for name, values in swarm.metrics if name == "inter_token_latency" for value in values]
    assert (len(first_ms), len(gaps_ms)) == (5, 20)
    # The smallest are the truth, for a busy machine only ever adds; held back by a buffer they would be 0 and 200.
    assert 59 <= min(first_ms) < 70
    assert 38 <= sorted(gaps_ms)[10] < 50
    assert all(event["response_time"] >= 235 for event in swarm.requests)


def test_streams_of_the_demo_are_counted_and_its_faults_are_failures(demo: DemoStack) -> None:
    path = DEFAULT.chat.stream_path
    expected = {
        "": None,
        "?fault=break": "the answer broke off",
        "?fault=no_end": "the stream ended without `end`",
        "?fault=error": "the stream carried an error",
        "?fault=status:503": "HTTP 503",
    }
    for query, failure in expected.items():
        with Swarm(once(ChatStreamUser, demo.host, with_chat(stream_path=path + query))) as swarm:
            swarm.run(3)
        assert len(swarm.requests) == 3
        if failure is None:
            assert swarm.failures == []
        else:
            assert all(failure in text for text in swarm.failures)
            assert len(swarm.failures) == 3


def test_chat_faults_of_the_demo_are_failures(demo: DemoStack) -> None:
    path = DEFAULT.chat.path
    expected = {
        "?fault=error": "the answer says success is not true",
        "?fault=break": "the answer broke off",
        "?fault=status:429": "HTTP 429",
        "?fault=delay:3": "no answer in time",
    }
    for query, failure in expected.items():
        user_class = once(ChatUser, demo.host, with_chat(path=path + query))
        user_class.timeout_s = 0.5
        with Swarm(user_class) as swarm:
            swarm.run()
        assert [text.startswith(failure) for text in swarm.failures] == [True]


def test_stopped_conversations_and_the_demos_ledger_agree(demo: DemoStack) -> None:
    """uvicorn counts what it received; what users were cut off from was received, and answered or not."""

    class Person(ChatUser):
        host = demo.host
        settings = with_chat(think_median=0.0)

    class Stream(ChatStreamUser):
        host = demo.host
        settings = with_chat(think_median=0.0)

    def are_more(wanted: int) -> bool:
        return len(swarm.requests) > wanted

    with Swarm(Person, Stream, stop_timeout=0) as swarm:
        for wanted in range(20, 140, 20):
            swarm.start(30)
            eventually(partial(are_more, wanted))
            swarm.stop()
            assert swarm.started == len(swarm.requests) + len(swarm.abandoned)
    assert swarm.failures == []
    assert swarm.abandoned
    chat = eventually(lambda: (found := demo.ledger()["chat"])["received"] == _settled(found) and found)
    assert len(swarm.requests) <= chat["answered"]
    assert chat["received"] <= swarm.started
    assert fetch(demo.ledger_url)["chat"]["failed"] == 0


def _settled(chat: dict[str, Any]) -> int:
    return sum(chat[state] for state in ("answered", "failed", "disconnected") if state in chat)
