"""Responses to generate and chat jobs in a dialect, streamed or whole, with injected stream faults."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from ollama_router_core.testing.dialects import Dialect
from ollama_router_core.testing.error_replies import ApiError
from ollama_router_core.testing.exchange import Exchange, StreamEnded, StreamFailed
from ollama_router_core.testing.faults import StreamError
from ollama_router_core.testing.inference import Engine, Job, Kind

__all__ = ["infer"]


async def infer(
    exchange: Exchange,
    engine: Engine,
    kind: Kind,
    request: Mapping[str, Any],
    dialect: Dialect,
    *,
    relaxed: bool = False,
) -> None:
    """Run a native request, see `Engine.prepare`, and send its response.

    Raises:
        ApiError: the request is rejected, or failed before anything was sent.
    """
    job = engine.prepare(kind, request, relaxed=relaxed)
    stream = request.get("stream") is not False
    if job.script is None:
        native = await engine.early(job)
        await _write_early(exchange, native, dialect, stream=stream)
    elif stream:
        await _stream(exchange, engine, job, dialect)
    else:
        native = await _collect(engine, job)
        if isinstance(exchange.fault, StreamError):
            raise _failed_stream(exchange.fault.message)
        await _whole(exchange, dialect, native)


async def _write_early(exchange: Exchange, native: Mapping[str, Any], dialect: Dialect, *, stream: bool) -> None:
    """Respond to a load or unload: on /api with one JSON object, even for a stream."""
    if stream and dialect.whole_type != "application/json; charset=utf-8":
        exchange.begin_stream(dialect.stream_type, dialect.stream_headers)
        for chunk in dialect.chunks(native):
            await exchange.chunk(chunk)
        await exchange.end_stream()
    else:
        await _whole(exchange, dialect, native)


async def _whole(exchange: Exchange, dialect: Dialect, native: Mapping[str, Any]) -> None:
    openai_like = dialect.whole_type == "application/json"
    await exchange.json(200, dialect.whole(native), content_type=dialect.whole_type, newline=openai_like)


async def _stream(exchange: Exchange, engine: Engine, job: Job, dialect: Dialect) -> None:
    exchange.begin_stream(dialect.stream_type, dialect.stream_headers)
    try:
        async with aclosing(engine.run(job)) as messages:
            async for native in messages:
                for chunk in dialect.chunks(native):
                    await exchange.chunk(chunk)
    except StreamEnded:
        pass
    except StreamFailed as failure:
        if not exchange.started:
            raise _failed_stream(str(failure)) from None
        for chunk in dialect.failure(str(failure)):
            await exchange.chunk(chunk)
    await exchange.end_stream()


def _failed_stream(message: str) -> ApiError:
    error = ApiError(500, message)
    error.streaming = True
    return error


async def _collect(engine: Engine, job: Job) -> dict[str, Any]:
    """Merge all messages: join the texts, keep the tool calls and the last metrics."""
    texts: dict[str, list[str]] = {"content": [], "thinking": []}
    calls: list[Any] = []
    last: dict[str, Any] = {}
    async with aclosing(engine.run(job)) as messages:
        async for native in messages:
            last = native
            part = native.get("message", native)
            texts["content"].append(part.get("content", part.get("response", "")))
            texts["thinking"].append(part.get("thinking", ""))
            calls += part.get("tool_calls", ())
    return _joined(last, "".join(texts["content"]), "".join(texts["thinking"]), calls)


def _joined(last: dict[str, Any], content: str, thinking: str, calls: list[Any]) -> dict[str, Any]:
    thought = {"thinking": thinking} if thinking else {}
    if "message" not in last:
        return {**last, "response": content, **thought}
    message: dict[str, Any] = {"role": "assistant", "content": content, **thought}
    if calls:
        message["tool_calls"] = calls
    return {**last, "message": message}
