"""Errors as answers: a whole one in the dialect of the route, or the end of a stream that cannot go on."""

from __future__ import annotations

from ollama_router_core.api.endpoints import Family
from ollama_router_core.errors import (
    InvalidCredential,
    InvalidModelName,
    MethodNotAllowed,
    MissingCredential,
    MissingModel,
    ModelIncapable,
    ModelNotFound,
    RouterError,
    UnknownRoute,
)
from ollama_router_core.translate import codec_of, error_body, error_tail
from ollama_router_server.relay.exchange import Exchange

__all__ = ["answer_error", "cut_stream", "error_answer", "last_words"]

_FORMS_NAME_FIRST = frozenset({"anthropic_messages", "openai_transcriptions"})


async def answer_error(exchange: Exchange, error: RouterError) -> None:
    """Answer with an error; an answer that has begun is cut, with the error as the last line of a stream."""
    if exchange.client.started:
        exchange.error = error
        await cut_stream(exchange, error, framed=exchange.client.framed)
        return
    headers, body = error_answer(exchange, error)
    await exchange.client.start(error.status_hint, headers)
    await exchange.client.finish(b"" if exchange.method == "HEAD" else body)


def error_answer(exchange: Exchange, error: RouterError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Head and body of a whole answer, which becomes the exchange's."""
    exchange.error, exchange.status = error, error.status_hint
    body, content_type = _content(exchange, error)
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    return [*headers, *_headers(error, exchange.attempts), *exchange.router_headers()], body


async def cut_stream(exchange: Exchange, error: RouterError, *, framed: bool) -> None:
    """Say in the stream's own dialect that it ended early; the caller leaves it unfinished, which cuts it.

    `framed` answers have a declared length, so nothing can be added to them.
    """
    tail = last_words(exchange, error, framed=framed)
    if tail:
        await exchange.client.write(tail)


def last_words(exchange: Exchange, error: RouterError, *, framed: bool) -> bytes:
    """What `cut_stream` writes; b"" where nothing can be said."""
    exchange.error = error
    if framed or exchange.route is None or not exchange.route.stream:
        return b""
    tail = error_tail(exchange.family, error.status_hint, error.message, code=error.code, request_id=exchange.id)
    return _out_of_line(exchange) + tail


def _out_of_line(exchange: Exchange) -> bytes:
    """What ends a line that the server did not, so that ours is read as one of its own."""
    usage = exchange.usage
    if usage is None or not usage.mid_line:
        return b""
    return codec_of(exchange.family).framing.end


def _content(exchange: Exchange, error: RouterError) -> tuple[bytes, bytes]:
    if isinstance(error, UnknownRoute | MethodNotAllowed):
        return error.message.encode(), b"text/plain"
    body = error_body(exchange.family, error.status_hint, error.message, code=error.code, request_id=exchange.id)
    if _translated(exchange, error):
        return body + b"\n", b"application/json"
    return body, b"application/json; charset=utf-8"


def _translated(exchange: Exchange, error: RouterError) -> bool:
    """Ollama finds what is wrong with a model after it has read a /v1 body, and writes that answer anew."""
    if exchange.family is Family.OLLAMA:
        return False
    if isinstance(error, MissingModel):
        return exchange.endpoint is not None and exchange.endpoint.name not in _FORMS_NAME_FIRST
    return isinstance(error, ModelNotFound | InvalidModelName | ModelIncapable)


def _headers(error: RouterError, attempts: int) -> list[tuple[bytes, bytes]]:
    headers = [(b"x-router-error", error.code.encode())]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
    if isinstance(error, MissingCredential | InvalidCredential):
        headers.append((b"www-authenticate", b'Bearer realm="ollama-router"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    if error.status_hint >= 500 and (attempts or error.retry_after is None):
        headers.append((b"x-should-retry", b"false"))  # else nothing was sent: coming back later is what helps
    return headers
