"""Errors as responses: complete ones in the dialect of the route, or the end of a broken stream."""

from __future__ import annotations

from ollama_router_core.api.retry_advice import retry_fields
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
from ollama_router_core.exchange.actions import Cut, Steps
from ollama_router_core.exchange.answers import JSON, JSON_UTF8, answer_whole, write
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.translate import codec_of, error_body, error_tail

__all__ = ["answer_error", "cut_stream"]

_FORMS_NAME_FIRST = frozenset({"anthropic_messages", "openai_transcriptions"})


def answer_error(context: RequestContext, error: RouterError) -> Steps[None]:
    """Answer with an error; a response that has begun is cut, with the error as the last line of a stream."""
    context.error = error
    if context.head_written:
        yield from cut_stream(context, error)
        return
    body, content_type = _content(context, error)
    yield from answer_whole(context, body, content_type, status=error.status_hint, fields=_fields(context, error))


def cut_stream(context: RequestContext, error: RouterError) -> Steps[None]:
    """Cut a response that has begun, so that it never looks complete; a stream gets the error in its dialect."""
    context.error = error
    if not context.framed and context.route is not None and context.route.stream:
        tail = error_tail(context.family, error.status_hint, error.message, code=error.code, request_id=context.id)
        yield write(context, _line_end(context) + tail)
    yield Cut()


def _line_end(context: RequestContext) -> bytes:
    """Return the delimiter that completes an unfinished line, so that the client parses the error as its own line."""
    if context.usage is None or not context.usage.mid_line:
        return b""
    return codec_of(context.family).framing.end


def _content(context: RequestContext, error: RouterError) -> tuple[bytes, bytes]:
    if isinstance(error, UnknownRoute | MethodNotAllowed):
        return error.message.encode(), b"text/plain"
    body = error_body(context.family, error.status_hint, error.message, code=error.code, request_id=context.id)
    if _is_rewritten(context, error):
        return body + b"\n", JSON
    return body, JSON_UTF8


def _is_rewritten(context: RequestContext, error: RouterError) -> bool:
    """Whether Ollama's /v1 middleware re-encodes this error: it checks the model after reading the body."""
    if context.endpoint is None or context.endpoint.native:
        return False
    if isinstance(error, MissingModel):
        return context.endpoint.name not in _FORMS_NAME_FIRST
    return isinstance(error, ModelNotFound | InvalidModelName | ModelIncapable)


def _fields(context: RequestContext, error: RouterError) -> list[tuple[bytes, bytes]]:
    fields = [(b"x-router-error", error.code.encode())]
    if isinstance(error, MissingCredential | InvalidCredential):
        fields.append((b"www-authenticate", b'Bearer realm="ollama-router"'))
    if isinstance(error, MethodNotAllowed):
        fields.append((b"allow", ", ".join(error.allowed).encode()))
    return [*fields, *retry_fields(error, sent=context.attempts > 0)]
