"""The way of a server's answer to the client: every piece at once, the end only when it is the end.

Belongs here: relaying heads and bodies.
Does not belong here: choosing servers (`forwarder`), which header fields pass (`headers`).
"""

from __future__ import annotations

from typing import Protocol

from ollama_router_core.errors import UpstreamError
from ollama_router_core.requests import ParsedRequest
from ollama_router_core.usage import UsageReader
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.failure import cut_stream
from ollama_router_server.relay.headers import answer_headers, reason_text
from ollama_router_server.system import Clock
from ollama_router_server.targets import Target
from ollama_router_server.upstream.interface import UpstreamResponse

__all__ = ["Held", "deliver"]

_LONGEST_ERROR = 64 * 1024


class Held(Protocol):
    """An answer whose head has arrived, and where it comes from."""

    @property
    def target(self) -> Target:
        """The place that answers."""

    @property
    def response(self) -> UpstreamResponse:
        """Its answer."""


async def deliver(exchange: Exchange, request: ParsedRequest, held: Held, clock: Clock) -> None:
    """Pass an answer on as it comes; one that breaks off is never ended as if it were complete."""
    response = held.response
    exchange.status = response.status
    headers = _headers(exchange, held)
    if held.target.external and response.status >= 400:
        await _deliver_redacted(exchange, held, headers)
        return
    if request.endpoint.counts_usage and response.status == 200:
        exchange.usage = UsageReader(request.endpoint.family, streamed=request.route.stream)
    await _deliver_pieces(exchange, held, headers, clock)


async def _deliver_pieces(exchange: Exchange, held: Held, headers: list[tuple[bytes, bytes]], clock: Clock) -> None:
    client, usage, response = exchange.client, exchange.usage, held.response
    await client.start(response.status, headers)
    try:
        piece = await response.read()
        exchange.first_byte = clock.monotonic()
        while piece:
            if usage is not None:
                usage.feed(piece)
            if response.complete:
                break
            await client.write(piece)
            piece = await response.read()
    except UpstreamError as error:
        await cut_stream(exchange, error, framed=any(name == b"content-length" for name, _ in headers))
        return
    await client.finish(piece)


async def _deliver_redacted(exchange: Exchange, held: Held, headers: list[tuple[bytes, bytes]]) -> None:
    """Errors of foreign services may echo our key: they are short, so they are held and cleaned."""
    pieces: list[bytes] = []
    while (piece := await held.response.read()) and sum(map(len, pieces)) < _LONGEST_ERROR:
        pieces.append(piece)
    body = held.target.redact(b"".join(pieces))[:_LONGEST_ERROR]
    kept = [(name, held.target.redact(value)) for name, value in headers if name != b"content-length"]
    await exchange.client.start(held.response.status, [*kept, (b"content-length", str(len(body)).encode())])
    await exchange.client.finish(body)


def _headers(exchange: Exchange, held: Held) -> list[tuple[bytes, bytes]]:
    headers = [*answer_headers(held.response.headers), *exchange.router_headers()]
    headers.append((b"x-router-server", held.target.name.encode("ascii", "replace")))
    headers.append((b"x-router-reason", reason_text(_reason(exchange, held.target.name))))
    if exchange.route is not None and exchange.route.stream:
        headers += [(b"x-accel-buffering", b"no"), (b"cache-control", b"no-cache")]
    return headers


def _reason(exchange: Exchange, server: str) -> str:
    decision = exchange.decision
    if decision is None:
        return ""
    if server == decision.server:
        return decision.reason
    return next((verdict.text for verdict in decision.verdicts if verdict.server == server), decision.reason)
