"""Answers of hosts that speak another dialect than the client, and those the router gives in their place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import UpstreamError, UpstreamProtocolError
from ollama_router_core.outbound.sending import Translation, answer_here
from ollama_router_core.responses.usage import UsageReader
from ollama_router_core.routing.decision import Decision
from ollama_router_core.translate import ReplyIdentity, StreamTranslator
from ollama_router_server.relay.answers import JSON_UTF8, answer_whole
from ollama_router_server.relay.delivery import LONGEST_ERROR, Held, answer_head
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.system import Clock
from ollama_router_server.upstream.interface import UpstreamResponse
from ollama_router_server.upstream.targets import Target

__all__ = ["answer_in_place", "deliver_translated"]

_LONGEST_REPLY = 64 * 1024 * 1024
_DRAIN_SECONDS = 1.0


async def answer_in_place(
    exchange: Exchange, request: ParsedRequest, decision: Decision, targets: Mapping[str, Target]
) -> bool:
    """Answer what an external host has no route for; False when the request has to go to a server or host."""
    target = targets.get(decision.server or "")
    body = None if target is None else answer_here(request, target.place, _identity(exchange))
    if body is None:
        return False
    exchange.server = decision.server
    await answer_whole(exchange, body, JSON_UTF8)
    return True


async def deliver_translated(exchange: Exchange, held: Held, translation: Translation, clock: Clock) -> None:
    """Pass an answer on in the client's dialect; one that breaks off ends with its error and is then cut.

    Raises:
        UpstreamError: before anything was written.
    """
    if held.response.status >= 400:
        await _deliver_error(exchange, held, translation)
    elif translation.stream:
        await _deliver_stream(exchange, held, translation, clock)
    else:
        await _deliver_whole(exchange, held, translation, clock)


async def _deliver_stream(exchange: Exchange, held: Held, translation: Translation, clock: Clock) -> None:
    translator = translation.stream_translator(_identity(exchange))
    usage = exchange.usage = UsageReader(translation.host.family, streamed=True)
    exchange.status = 200
    await exchange.client.start(200, _head(exchange, held, translation))
    try:
        while not translator.done and (piece := await held.response.read()):
            if exchange.first_byte is None:
                exchange.first_byte = clock.monotonic()
            usage.feed(piece)
            written = translator.feed(piece, elapsed_ns=_elapsed_ns(exchange, clock))
            if written and not translator.done:
                await exchange.client.write(written)
                written = b""
        written = written if translator.done else translator.finish(elapsed_ns=_elapsed_ns(exchange, clock))
    except UpstreamError as error:
        written = translator.abort(error)
    await _conclude(exchange, held, translator, written)


async def _conclude(exchange: Exchange, held: Held, translator: StreamTranslator, written: bytes) -> None:
    if translator.failure is not None:
        exchange.error = translator.failure
        await exchange.client.write(held.target.redact(written))
        return  # unfinished: the connection is cut
    await exchange.client.finish(written)
    await _drain(exchange, held.response)


async def _drain(exchange: Exchange, response: UpstreamResponse) -> None:
    """Read what follows the answer (`[DONE]`), so that the connection can be used again."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while not response.complete and (piece := await response.read()):
                if exchange.usage is not None:
                    exchange.usage.feed(piece)
    except (TimeoutError, UpstreamError):
        return


async def _deliver_whole(exchange: Exchange, held: Held, translation: Translation, clock: Clock) -> None:
    body = await _read(held, _LONGEST_REPLY)
    exchange.first_byte = clock.monotonic()
    usage = exchange.usage = UsageReader(translation.host.family, streamed=False)
    usage.feed(body)
    written = translation.reply(body, _identity(exchange), elapsed_ns=_elapsed_ns(exchange, clock))
    await _answer(exchange, 200, _head(exchange, held, translation), written)


async def _deliver_error(exchange: Exchange, held: Held, translation: Translation) -> None:
    body = held.target.redact(await _read(held, LONGEST_ERROR, cut=True))
    error = translation.error(held.response.status, body, _identity(exchange))
    head = [(name, held.target.redact(value)) for name, value in answer_head(exchange, held, rewritten=True)]
    await _answer(exchange, error.status, [*head, (b"content-type", JSON_UTF8)], error.body)


async def _answer(exchange: Exchange, status: int, head: list[tuple[bytes, bytes]], body: bytes) -> None:
    exchange.status = status
    await exchange.client.start(status, [*head, (b"content-length", str(len(body)).encode())])
    await exchange.client.finish(body)


async def _read(held: Held, most: int, *, cut: bool = False) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := await held.response.read():
        pieces.append(piece)
        size += len(piece)
        if size > most and not cut:
            raise UpstreamProtocolError(f"{held.target.name} answered with more than {most} bytes")
        if size > most:
            break
    return b"".join(pieces)


def _head(exchange: Exchange, held: Held, translation: Translation) -> list[tuple[bytes, bytes]]:
    head = answer_head(exchange, held, rewritten=True)
    return [*head, (b"content-type", translation.content_type), *translation.dropped_field]


def _identity(exchange: Exchange) -> ReplyIdentity:
    model = exchange.route.model_text if exchange.route is not None else None
    return ReplyIdentity(model=model or "", id=exchange.id, created_ns=int(exchange.started_at * 1e9))


def _elapsed_ns(exchange: Exchange, clock: Clock) -> int:
    return int((clock.monotonic() - exchange.started) * 1e9)
