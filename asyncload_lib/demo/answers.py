"""One chat answer in its two forms: a JSON body, or server-sent events."""

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal
from uuid import uuid4

from pydantic import AliasChoices, BaseModel, Field

from asyncload_lib.demo.backends import Backend
from asyncload_lib.demo.faults import BrokenOffError, Fault

__all__ = ["Pace", "Question", "answer_body", "answer_events", "break_off"]


class Question(BaseModel):
    """The body of a chat request, in its older (`message`) and its newer form (`content`, `role`)."""

    content: str = Field(validation_alias=AliasChoices("message", "content"), min_length=1, max_length=100_000)
    role: Literal["user", "system"] = "user"
    session_id: str = Field(default_factory=lambda: uuid4().hex, min_length=1, max_length=128)


@dataclass(frozen=True, slots=True)
class Pace:
    """How a stream is cut: `chunks`, and `gap_s` before each of them."""

    chunks: int
    gap_s: float


async def answer_body(backend: Backend, question: Question, model_time_s: float) -> dict[str, Any]:
    """Read the history, wait for the model, write the history back; return the body of the response."""
    turns = await backend.turns(question.session_id)
    await backend.wait(model_time_s)
    content = _words(question, turns)
    await backend.remember(question.session_id, question.content, content)
    return {"success": True, "data": _message(question, content)}


async def answer_events(backend: Backend, question: Question, pace: Pace, fault: Fault) -> AsyncIterator[str]:
    """Yield `start`, then a `chunk` after each gap, then `end`, as `data:` events of `text/event-stream`.

    Every event carries `index` (0, 1, 2, ...), `sent_at` (seconds since the epoch) and `sent_monotonic` (seconds of
    `time.perf_counter`, comparable between processes of one Linux machine). The faults break, error and no_end strike
    after half of the chunks.
    """
    number = count()

    def event(kind: str, **fields: Any) -> str:
        sent = {"type": kind, "index": next(number), "sent_at": time.time(), "sent_monotonic": time.perf_counter()}
        return f"data: {json.dumps(sent | fields)}\n\n"

    turns = await backend.turns(question.session_id)
    content = _words(question, turns)
    message = _message(question, content)
    yield event("start", session_id=message["session_id"], message_id=message["message_id"])
    for index in range(pace.chunks):
        if index == pace.chunks // 2:
            if fault.name == "break":
                raise BrokenOffError("asked for by ?fault=break")
            if fault.name == "error":
                yield event("error", message="asked for by ?fault=error")
                return
            if fault.name == "no_end":
                return
        await backend.wait(pace.gap_s)
        yield event("chunk", content=_piece(content, index, pace.chunks))
    await backend.remember(question.session_id, question.content, content)
    yield event("end", **message)


async def break_off(body: dict[str, Any]) -> AsyncIterator[str]:
    """Yield half of the JSON body, then raise BrokenOffError."""
    text = json.dumps(body)
    yield text[: len(text) // 2]
    raise BrokenOffError("asked for by ?fault=break")


def _words(question: Question, turns: int) -> str:
    """Return the model's words; the length of the history in them shows that it was read."""
    return f"Answer after {turns} earlier messages to: {question.content[:200]}"


def _message(question: Question, content: str) -> dict[str, str]:
    return {
        "content": content,
        "role": "assistant",
        "session_id": question.session_id,
        "message_id": uuid4().hex,
        "timestamp": datetime.now(UTC).isoformat(),
    }


def _piece(content: str, index: int, chunks: int) -> str:
    """Return chunk `index` of `chunks`; together they are `content`."""
    return content[len(content) * index // chunks : len(content) * (index + 1) // chunks]
