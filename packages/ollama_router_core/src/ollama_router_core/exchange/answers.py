"""Response heads, and responses that the router writes itself."""

from __future__ import annotations

from ollama_router_core.exchange.actions import Finish, Steps, Write, WriteHead
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.events import Headers

__all__ = ["JSON", "JSON_UTF8", "answer_for", "answer_whole", "finish", "server_field", "write", "write_head"]

JSON = b"application/json"
JSON_UTF8 = b"application/json; charset=utf-8"


def write_head(context: RequestContext, status: int, fields: Headers) -> Steps[None]:
    """Write the response head, unless a heartbeat already has."""
    if context.kept_alive:
        return
    context.status = status
    context.head_written = True
    context.framed = b"content-length" in dict(fields)
    yield WriteHead(status, fields)


def write(context: RequestContext, data: bytes) -> Write:
    """Write a piece of the response."""
    context.bytes_out += len(data)
    return Write(data)


def finish(context: RequestContext, data: bytes) -> Finish:
    """Finish the response with its last piece; later events no longer affect the client."""
    context.bytes_out += len(data)
    context.finished = True
    return Finish(data)


def answer_whole(
    context: RequestContext, body: bytes, content_type: bytes | None, *, status: int = 200, fields: Headers = ()
) -> Steps[None]:
    """Answer with a body of known length; HEAD gets the head alone."""
    head = [] if content_type is None else [(b"content-type", content_type)]
    head += [(b"content-length", b"%d" % len(body)), *fields, *context.router_fields()]
    yield from write_head(context, status, head)
    yield finish(context, b"" if context.method == "HEAD" else body)


def answer_for(context: RequestContext, body: bytes, content_type: bytes | None, *, status: int = 200) -> Steps[None]:
    """Answer as `answer_whole`, and name the servers asked in `X-Router-Server`."""
    fields = () if context.server is None else (server_field(context.server),)
    yield from answer_whole(context, body, content_type, status=status, fields=fields)


def server_field(name: str) -> tuple[bytes, bytes]:
    """Return the `X-Router-Server` field."""
    return b"x-router-server", name.encode("ascii", "replace")
