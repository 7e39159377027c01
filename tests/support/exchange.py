"""Short spellings for exchanges with an `Upstream`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ollama_router_server.upstream.interface import Headers, Origin, Upstream, UpstreamRequest, UpstreamResponse

__all__ = ["Answer", "ask", "read_all", "to"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that has been read to its end."""

    status: int
    headers: Headers
    body: bytes


def to(port: int, method: str = "GET", target: str = "/", *, scheme: str = "http", **fields: Any) -> UpstreamRequest:
    """A request to a server on loopback."""
    origin = Origin(scheme, "127.0.0.1", port)
    return UpstreamRequest(origin=origin, method=method, target=target, **fields)


async def read_all(response: UpstreamResponse) -> bytes:
    """Every piece of a body up to its complete end."""
    pieces = []
    while piece := await response.read():
        pieces.append(piece)
    return b"".join(pieces)


async def ask(upstream: Upstream, request: UpstreamRequest) -> Answer:
    """One exchange from start to end; the answer is closed in any case."""
    response = await upstream.send(request)
    try:
        return Answer(response.status, response.headers, await read_all(response))
    finally:
        response.close()
