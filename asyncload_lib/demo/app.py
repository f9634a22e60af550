"""The chat backend: a FastAPI application over one of the two backends."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from anyio import CancelScope
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from redis import RedisError

from asyncload_lib.demo.accounting import LedgerMiddleware
from asyncload_lib.demo.answers import Pace, Question, answer_body, answer_events, break_off
from asyncload_lib.demo.backends import AsyncBackend, Backend, BlockingBackend
from asyncload_lib.demo.faults import parse_fault
from asyncload_lib.demo.ledger import Ledger
from asyncload_lib.eventloop.asgi import LoopProbe

__all__ = ["BackendOptions", "create_app"]

CHUNKS = 20
"""Chunks of a stream whose request names no number; together they take the model time."""


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """How one backend process behaves; `role` names its ledger and its transcript in `directory`."""

    role: str
    mode: Literal["async", "blocking"]
    redis_url: str
    directory: str
    probe_token: str
    probe_path: str
    model_time_s: float
    faults: bool


def create_app(options: BackendOptions) -> FastAPI:
    """Return the application; the file `ledger-<role>` must exist."""
    directory = Path(options.directory)
    transcript = directory / f"transcript-{options.role}.jsonl"
    kind = AsyncBackend if options.mode == "async" else BlockingBackend
    backend: Backend = kind(options.redis_url, transcript)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await backend.open()
        CancelScope()  # anyio loads its backend at the first use: 20 ms, a stall amid the first answer
        gc.collect()
        gc.freeze()  # no collection goes through the imported objects any more: a full one would stall the loop
        yield
        await backend.close()

    app = FastAPI(title="asyncload demo", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(LedgerMiddleware, ledger=Ledger(directory / f"ledger-{options.role}"))
    app.add_middleware(LoopProbe, token=options.probe_token, path=options.probe_path)
    app.add_exception_handler(RedisError, _redis_is_down)
    _add_routes(app, backend, options)
    return app


def _add_routes(app: FastAPI, backend: Backend, options: BackendOptions) -> None:
    @app.get("/api/health")
    async def health() -> Response:
        return JSONResponse({"status": "healthy", "mode": options.mode})

    @app.get("/api/chat/health")
    async def chat_health() -> Response:
        await backend.ping()
        return JSONResponse({"status": "healthy", "components": {"redis": "up", "model": "simulated"}})

    @app.post("/api/chat")
    async def chat(question: Question, request: Request, fault: str | None = None) -> Response:
        asked = parse_fault(fault, options.faults)
        await asked.before(backend)
        if asked.name == "error":
            request.state.failed = True
            return JSONResponse({"success": False, "error": "asked for by ?fault=error"})
        body = await answer_body(backend, question, options.model_time_s)
        if asked.name == "break":
            return StreamingResponse(break_off(body), media_type="application/json")
        return JSONResponse(body)

    @app.post("/api/chat/stream")
    async def chat_stream(
        question: Question,
        request: Request,
        chunks: Annotated[int, Query(ge=1, le=10_000)] = CHUNKS,
        gap_s: Annotated[float | None, Query(ge=0, le=10)] = None,
        fault: str | None = None,
    ) -> Response:
        asked = parse_fault(fault, options.faults)
        await asked.before(backend)
        request.state.failed = asked.name in ("error", "no_end")
        pace = Pace(chunks=chunks, gap_s=options.model_time_s / chunks if gap_s is None else gap_s)
        return StreamingResponse(
            answer_events(backend, question, pace, asked),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
        )


async def _redis_is_down(_: Request, error: Exception) -> Response:
    return JSONResponse({"success": False, "error": f"redis: {error}"}, status_code=503)
