"""Errors as answers: a whole one in the dialect of the route, or the end of a stream that cannot go on."""

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
from ollama_router_core.exchange.actions import Cut, Steps, Write
from ollama_router_core.exchange.answers import JSON, JSON_UTF8, answer_whole
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.translate import codec_of, error_body, error_tail

__all__ = ["answer_error", "cut_stream"]

_FORMS_NAME_FIRST = frozenset({"anthropic_messages", "openai_transcriptions"})


def answer_error(context: RequestContext, error: RouterError) -> Steps[None]:
    """Answer with an error; an answer that has begun is cut, with the error as the last line of a stream."""
    context.error = error
    if context.head_written:
        yield from cut_stream(context, error)
        return
    body, content_type = _content(context, error)
    yield from answer_whole(context, body, content_type, status=error.status_hint, fields=_fields(context, error))


def cut_stream(context: RequestContext, error: RouterError) -> Steps[None]:
    """End an answer that has begun, never as if it were complete; a stream says why in its own dialect."""
    context.error = error
    if not context.framed and context.route is not None and context.route.stream:
        tail = error_tail(context.family, error.status_hint, error.message, code=error.code, request_id=context.id)
        data = _line_end(context) + tail
        context.bytes_out += len(data)
        yield Write(data)
    yield Cut()


def _line_end(context: RequestContext) -> bytes:
    """Return what ends a line that the server did not, so that ours is read as one of its own."""
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
    """Ollama finds what is wrong with a model after it has read a /v1 body, and writes that answer anew."""
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
