"""Whole answers that the router writes itself."""

from __future__ import annotations

from ollama_router_server.relay.exchange import Exchange

__all__ = ["JSON", "JSON_UTF8", "answer_whole"]

JSON = b"application/json"
JSON_UTF8 = b"application/json; charset=utf-8"


async def answer_whole(exchange: Exchange, body: bytes, content_type: bytes | None, *, status: int = 200) -> None:
    """Answer with a body whose length is known; HEAD gets the head alone."""
    exchange.status = status
    headers = [] if content_type is None else [(b"content-type", content_type)]
    headers += [(b"content-length", str(len(body)).encode()), *exchange.router_headers()]
    if exchange.server is not None:
        headers.append((b"x-router-server", exchange.server.encode("ascii", "replace")))
    await exchange.client.start(status, headers)
    await exchange.client.finish(body if exchange.method != "HEAD" else b"")
