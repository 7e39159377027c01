"""The way of a server's answer to the client: every piece at once, the end only when it is the end."""

from __future__ import annotations

from typing import Protocol

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import RefusedLate, UpstreamError
from ollama_router_core.outbound.header_fields import answer_fields, reason_field
from ollama_router_core.responses.usage import UsageReader
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.forwarding import REJECTIONS
from ollama_router_core.translate import error_tail, read_host_error
from ollama_router_server.relay.error_responses import cut_stream
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.system import Clock
from ollama_router_server.upstream.interface import UpstreamResponse
from ollama_router_server.upstream.targets import Target

__all__ = ["LONGEST_ERROR", "Held", "answer_head", "deliver", "deliver_late_error"]

LONGEST_ERROR = 64 * 1024
"""Bytes of a foreign service's error that are looked at."""


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
    headers = answer_head(exchange, held)
    if held.target.external and response.status >= 400:
        await _deliver_redacted(exchange, held, headers)
        return
    if request.endpoint.counts_usage and response.status == 200:
        exchange.usage = UsageReader(request.endpoint.family, streamed=request.route.stream)
    await _deliver_pieces(exchange, response, headers, clock)


async def deliver_late_error(exchange: Exchange, held: Held) -> None:
    """Tell an error answer at the end of a stream that had to begin before it; the stream is then cut."""
    response = held.response
    problem = read_host_error(response.status, held.target.redact(await _read_error(response)))
    text = f"{held.target.name} answered with {response.status} after signs of life had been sent"
    exchange.error = RefusedLate(text)
    tail = error_tail(exchange.family, problem.status, problem.message, code=problem.code, request_id=exchange.id)
    await exchange.client.write(tail)


async def _deliver_pieces(
    exchange: Exchange, response: UpstreamResponse, headers: list[tuple[bytes, bytes]], clock: Clock
) -> None:
    client, usage = exchange.client, exchange.usage
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
        await cut_stream(exchange, error, framed=client.framed)
        return
    await client.finish(piece)


async def _deliver_redacted(exchange: Exchange, held: Held, headers: list[tuple[bytes, bytes]]) -> None:
    """Errors of foreign services may echo our key: they are short, so they are held and cleaned."""
    body = held.target.redact(await _read_error(held.response))[:LONGEST_ERROR]
    kept = [(name, held.target.redact(value)) for name, value in headers if name != b"content-length"]
    await exchange.client.start(held.response.status, [*kept, (b"content-length", str(len(body)).encode())])
    await exchange.client.finish(body)


async def _read_error(response: UpstreamResponse) -> bytes:
    pieces: list[bytes] = []
    while (piece := await response.read()) and sum(map(len, pieces)) < LONGEST_ERROR:
        pieces.append(piece)
    return b"".join(pieces)


def answer_head(exchange: Exchange, held: Held, *, rewritten: bool = False) -> list[tuple[bytes, bytes]]:
    """The fields of the answer as the client gets them; of a `rewritten` body the caller adds type and length."""
    headers = [*answer_fields(held.response.headers, rewritten=rewritten), *exchange.router_headers()]
    name = held.target.name
    if exchange.decision is not None:
        headers += _choice(name, _reason(exchange.decision, name))
    else:
        headers.append((b"x-router-server", name.encode("ascii", "replace")))
    if exchange.attempts > 1 and held.response.status in REJECTIONS:
        headers.append((b"x-should-retry", b"false"))  # every server that could be asked has refused
    if exchange.route is not None and exchange.route.stream:
        headers.append((b"x-accel-buffering", b"no"))
        if not any(name == b"cache-control" for name, _ in headers):
            headers.append((b"cache-control", b"no-cache"))
    return headers


def _choice(server: str, reason: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-router-server", server.encode("ascii", "replace")), (b"x-router-reason", reason_field(reason))]


def _reason(decision: Decision, server: str) -> str:
    if server == decision.server:
        return decision.reason
    return next((verdict.text for verdict in decision.verdicts if verdict.server == server), decision.reason)
