"""Several servers' progress streams, relayed as one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import PartlyDone, RouterError, UpstreamProtocolError
from ollama_router_core.responses.progress import MergedProgress
from ollama_router_server.relay.answers import JSON, answer_whole
from ollama_router_server.relay.dispatch import Dispatch, OpenAnswer, Outgoing
from ollama_router_server.relay.exchange import Exchange

__all__ = ["merge_progress"]

_NDJSON = b"application/x-ndjson"
_LONGEST_LINE = 1024 * 1024
_WAITING = 64  # lines; a client that reads slowly slows the servers down

Line = Mapping[str, Any]
Event = tuple[str, Line | None, str | None]
"""A server with a line of its stream; with None for its end, and the error that ended it if one did."""


async def merge_progress(
    exchange: Exchange, request: ParsedRequest, servers: tuple[str, ...], dispatch: Dispatch, outgoing: Outgoing
) -> None:
    """Ask all servers at once and answer with one stream, or with one object if no stream was asked for.

    Raises:
        PartlyDone: before anything was written: no server began, or no stream was asked for and some server failed.
    """
    merged = MergedProgress(request.endpoint.name, servers)
    exchange.server, exchange.attempts = ", ".join(servers), len(servers)
    events: asyncio.Queue[Event] = asyncio.Queue(_WAITING)
    async with asyncio.TaskGroup() as group:
        for server in servers:
            group.create_task(_read(exchange, server, dispatch, outgoing, events))
        await _write(exchange, merged, len(servers), events, streamed=request.route.stream)
    await _conclude(exchange, merged)


async def _read(
    exchange: Exchange, server: str, dispatch: Dispatch, outgoing: Outgoing, events: asyncio.Queue[Event]
) -> None:
    error: str | None = None
    try:
        answer = await dispatch.open(exchange, server, outgoing)
        try:
            async for line in _lines(server, answer):
                await events.put((server, line, None))
            if answer.response.status != 200:
                error = f"answered {answer.response.status}"
        finally:
            answer.release()
    except RouterError as failure:
        error = failure.message
    await events.put((server, None, error))


async def _lines(server: str, answer: OpenAnswer) -> AsyncIterator[Line]:
    rest = b""
    while piece := await answer.response.read():
        *whole, rest = (rest + piece).split(b"\n")
        for text in whole:
            yield _line(server, text)
        if len(rest) > _LONGEST_LINE:
            raise UpstreamProtocolError(f"{server} sent a line of more than {_LONGEST_LINE} bytes")
    if rest.strip():
        yield _line(server, rest)


def _line(server: str, text: bytes) -> Line:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise UpstreamProtocolError(f"{server} sent progress that is not JSON")
    return line


async def _write(
    exchange: Exchange, merged: MergedProgress, running: int, events: asyncio.Queue[Event], *, streamed: bool
) -> None:
    while running:
        server, line, error = await events.get()
        if line is None:
            running -= 1
            merged.end(server, error)
            continue
        shown = merged.line(server, line)
        if streamed and shown is not None:
            await _begin(exchange)
            await exchange.client.write(json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


async def _begin(exchange: Exchange) -> None:
    if exchange.client.started:
        return
    exchange.status = 200
    server = (exchange.server or "").encode("ascii", "replace")
    headers = [(b"content-type", _NDJSON), (b"x-router-server", server), *exchange.router_headers()]
    await exchange.client.start(200, [*headers, (b"x-accel-buffering", b"no"), (b"cache-control", b"no-cache")])


async def _conclude(exchange: Exchange, merged: MergedProgress) -> None:
    last = merged.conclusion()
    error = PartlyDone(str(last["error"])) if "error" in last else None
    body = json.dumps(last, ensure_ascii=False).encode("utf-8", "replace")
    if exchange.client.started:
        exchange.error = error
        await exchange.client.finish(body + b"\n")
    elif error is not None:
        raise error
    else:
        await answer_whole(exchange, body, JSON)
