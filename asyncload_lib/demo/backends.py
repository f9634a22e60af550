"""What a chat request waits for (history in Redis, the model, a transcript file), twice: awaited and blocking.

Both have the same methods, so that the handlers are written once. `BlockingBackend` is a service before its
conversion: its methods are `async def` but never yield, so the loop stands still while one of them waits.
"""

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Protocol

from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["HISTORY_LENGTH", "HISTORY_TTL_S", "AsyncBackend", "Backend", "BlockingBackend"]

HISTORY_LENGTH = 20
HISTORY_TTL_S = 600
_TRANSCRIPT_BYTES = 64 << 20
"""A transcript that has grown beyond this begins again from nothing."""
_POOL_SIZE = 100
_WARM_CONNECTIONS = 50
"""Opened before the first request, so that no burst pays for them."""
_RETRIES = 1
"""With redis-py's default it would take seconds to notice that Redis is gone."""
_CONNECTION: dict[str, Any] = {"protocol": 2, "driver_info": None, "socket_timeout": 10, "socket_connect_timeout": 5}
"""With RESP2 and no driver information a new connection costs no round trip before its first command."""


class Backend(Protocol):
    """The waiting parts of one chat request; times in seconds; Redis trouble raises `redis.RedisError`."""

    async def open(self) -> None:
        """Reach Redis once; called before the first request."""

    async def ping(self) -> None:
        """Ask Redis for a sign of life."""

    async def turns(self, session_id: str) -> int:
        """Read the session's history and return its length."""
        ...

    async def wait(self, seconds: float) -> None:
        """Wait for the model."""

    async def remember(self, session_id: str, question: str, answer: str) -> None:
        """Write the history back and append to the transcript."""

    async def close(self) -> None:
        """Let go of all connections."""


class AsyncBackend:
    """Every wait is awaited: pooled `redis.asyncio`, `asyncio.sleep`, the file in a thread."""

    def __init__(self, redis_url: str, transcript: Path) -> None:
        retry = AsyncRetry(NoBackoff(), _RETRIES)
        pool = BlockingConnectionPool.from_url(
            redis_url, max_connections=_POOL_SIZE, timeout=10, retry=retry, **_CONNECTION
        )
        self._redis: AsyncRedis = AsyncRedis(connection_pool=pool)
        self._transcript = transcript

    async def open(self) -> None:
        await asyncio.gather(*(self.ping() for _ in range(_WARM_CONNECTIONS)))
        await asyncio.to_thread(self._transcript.touch)

    async def ping(self) -> None:
        await self._redis.ping()

    async def turns(self, session_id: str) -> int:
        return len(await self._redis.lrange(_key(session_id), 0, -1))

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def remember(self, session_id: str, question: str, answer: str) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        await _extend_history(pipeline, session_id, question, answer).execute()
        await asyncio.to_thread(_append, self._transcript, session_id, question, answer)

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()


class BlockingBackend:
    """The same, and nothing is ever awaited: sync `redis`, `time.sleep`, `open().write()` on the loop's own thread."""

    def __init__(self, redis_url: str, transcript: Path) -> None:
        self._redis = Redis.from_url(redis_url, retry=Retry(NoBackoff(), _RETRIES), **_CONNECTION)
        self._transcript = transcript

    async def open(self) -> None:
        await self.ping()

    async def ping(self) -> None:
        self._redis.ping()

    async def turns(self, session_id: str) -> int:
        return len(self._redis.lrange(_key(session_id), 0, -1))

    async def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    async def remember(self, session_id: str, question: str, answer: str) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        _extend_history(pipeline, session_id, question, answer).execute()
        _append(self._transcript, session_id, question, answer)

    async def close(self) -> None:
        self._redis.close()


def _key(session_id: str) -> str:
    return f"chat:history:{session_id}"


def _extend_history(pipeline: Any, session_id: str, question: str, answer: str) -> Any:
    """Queue one round trip that appends to the history: two requests of a session never overwrite each other."""
    key = _key(session_id)
    pipeline.rpush(key, json.dumps({"role": "user", "content": question}))
    pipeline.rpush(key, json.dumps({"role": "assistant", "content": answer}))
    pipeline.ltrim(key, -HISTORY_LENGTH, -1)
    pipeline.expire(key, HISTORY_TTL_S)
    return pipeline


def _append(transcript: Path, session_id: str, question: str, answer: str) -> None:
    with transcript.open("a") as file:
        if file.tell() > _TRANSCRIPT_BYTES:
            file.truncate(0)
        file.write(json.dumps({"session_id": session_id, "question": question, "answer": answer}) + "\n")
