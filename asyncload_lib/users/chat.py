"""Users that chat with the backend: one answer at a time, or streamed token by token."""

import itertools
import json
import secrets
import time
from typing import Any, ClassVar

from locust import task

from asyncload_lib.users.http import AsyncHttpUser
from asyncload_lib.users.ordinals import next_ordinal
from asyncload_lib.users.response import Response
from asyncload_lib.users.sse import EventTooLargeError, SseParser
from asyncload_lib.users.traffic import ChatTraffic

__all__ = ["ChatStreamUser", "ChatUser"]

NO_JSON = (ValueError, RecursionError)
"""What `json.loads` raises for a text that is not JSON, or is nested too deeply."""


class ChatUser(AsyncHttpUser):
    """A person in a chat: turns of sessions (`POST chat.path`), with think time between them.

    An answer counts as good when it is JSON with `success: true` and a `data.content` that is a non-empty text.
    """

    abstract = True
    scenario = "chat"
    timeout_s: ClassVar[float] = 30.0
    """How long to wait for an answer: `chat.timeout`, and longer where a blocking server makes its callers queue."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        # Random, for nothing else is unique: containers have the same process ids, and memory addresses are used again.
        self._name = f"{self.run_id}-{secrets.token_hex(6)}"
        self._request_numbers = itertools.count(1)
        lines = (line.partition(":") for line in self.settings.chat.headers)
        self._given_headers = {name: value.strip() for name, _, value in lines}
        self.take_place(next_ordinal(environment))

    def take_place(self, ordinal: int) -> None:
        """Become the `ordinal`-th user of the run; its number decides what this user says and when."""
        chat = self.settings.chat
        self.traffic = ChatTraffic(
            self.settings.seed,
            ordinal,
            think_median_s=chat.think_median,
            message_median=chat.message_median,
            turns_mean=chat.turns_mean,
            session_prefix=f"load-{self._name}",
        )

    def wait_time(self) -> float:
        return self.traffic.think_time_s()

    @task
    async def chat(self) -> None:
        await self.turn()

    async def turn(self, intended_ns: int | None = None) -> None:
        """Send the next message and judge the answer."""
        exchange = self.client.post(
            self.settings.chat.path,
            json=self._body(),
            headers=self._headers(),
            timeout=self.timeout_s,
            catch_response=True,
            intended_ns=intended_ns,
        )
        async with exchange as response:
            if response.ok and (problem := _problem(response)):
                response.failure(problem)

    def _headers(self) -> dict[str, str]:
        return {**self._given_headers, "x-request-id": f"{self._name}-{next(self._request_numbers)}"}

    def _body(self) -> dict[str, str]:
        session_id, message = self.traffic.next_turn()
        if self.settings.chat.message_field == "content":
            return {"content": message, "role": "user", "session_id": session_id}
        return {"message": message, "session_id": session_id}


class ChatStreamUser(ChatUser):
    """A person whose answers are streamed (`POST chat.stream_path`, server-sent events).

    A stream is good when its last event is of type `end`; one that breaks off, or carries `error`, is a failure. Kept
    beside a good one: `time_to_first_token` (intended start to the first `chunk`) and `inter_token_latency`.
    """

    abstract = True

    async def turn(self, intended_ns: int | None = None) -> None:
        """Send the next message and read the answer as it comes."""
        exchange = self.client.post(
            self.settings.chat.stream_path,
            json=self._body(),
            headers={**self._headers(), "accept": "text/event-stream"},
            timeout=self.timeout_s,
            catch_response=True,
            stream=True,
            intended_ns=intended_ns,
        )
        begun_ns = intended_ns or time.perf_counter_ns()
        async with exchange as response:
            if response.ok:
                await self._read(response, begun_ns)

    async def _read(self, response: Response, begun_ns: int) -> None:
        tokens_ns: list[int] = []
        problem = await self._read_events(response, tokens_ns)
        if problem or not tokens_ns:
            response.failure(problem or "the stream held no token")
            return
        response.metric("time_to_first_token", [(tokens_ns[0] - begun_ns) / 1e3])
        gaps = [(later - earlier) / 1e3 for earlier, later in itertools.pairwise(tokens_ns)]
        if gaps:
            response.metric("inter_token_latency", gaps)

    async def _read_events(self, response: Response, tokens_ns: list[int]) -> str | None:
        """Collect the moments of the tokens; return what was wrong with the stream, if anything."""
        parser = SseParser()
        kind = None
        try:
            async for chunk in response.iter_bytes():
                for data in parser.feed(chunk):
                    event = json.loads(data)
                    kind = event.get("type") if isinstance(event, dict) else None
                    if kind == "chunk":
                        tokens_ns.append(response.ended_ns)
                    elif kind == "error":
                        return f"the stream carried an error: {event.get('message') or event.get('error') or ''}"
        except EventTooLargeError as error:
            return f"the stream carried {error}"
        except UnicodeDecodeError:
            return "the stream is not UTF-8"
        except NO_JSON:
            return "the stream carried an event that is not JSON"
        return None if kind == "end" else "the stream ended without `end`"


def _problem(response: Response) -> str | None:
    try:
        answer = response.json()
    except NO_JSON:
        return "the answer is not JSON"
    if not isinstance(answer, dict) or answer.get("success") is not True:
        return "the answer says success is not true"
    data = answer.get("data")
    content = data.get("content") if isinstance(data, dict) else None
    return None if isinstance(content, str) and content else "the answer has no content"
