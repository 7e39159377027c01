"""Relays a server's response to the client: every piece immediately, and a normal end only if it is complete."""

from __future__ import annotations

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import RefusedLate, UpstreamError, UpstreamIncomplete
from ollama_router_core.exchange.actions import Cut, Receive, Steps, Write
from ollama_router_core.exchange.answers import finish, server_field, write, write_head
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.error_responses import cut_stream
from ollama_router_core.exchange.events import Headers, Piece
from ollama_router_core.exchange.upstream_answer import LONGEST_ERROR, Answer, read_error
from ollama_router_core.outbound.header_fields import answer_fields, reason_field
from ollama_router_core.outbound.stream_usage import UsageChunkFilter
from ollama_router_core.responses.usage import UsageReader
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.forwarding import REJECTIONS
from ollama_router_core.translate import error_tail, read_host_error

__all__ = ["answer_head", "next_piece", "relay", "relay_late_error", "retry_field"]

_HELD = 64 * 1024
_STREAMS = frozenset({b"text/event-stream", b"application/x-ndjson"})


def relay(environment: Environment, context: RequestContext, request: ParsedRequest, answer: Answer) -> Steps[None]:
    """Relay a response as it arrives; one that is cut off never ends as if it were complete."""
    context.status = status = answer.status
    fields = answer_head(context, answer)
    if answer.destination.external and status >= 400:
        yield from _relay_redacted(context, answer, fields)
        return
    if request.endpoint.counts_usage and status == 200:
        context.usage = UsageReader(request.endpoint.family, streamed=request.route.stream)
    unasked = UsageChunkFilter() if answer.counts_unasked and status == 200 else None
    if unasked is not None:
        fields = [field for field in fields if field[0] != b"content-length"]
    if context.usage is not None and not request.route.stream:
        if (yield from _relay_whole(environment, context, answer, context.usage, fields)):
            return
    else:
        yield from write_head(context, status, fields)
    try:
        last = yield from _relay_pieces(environment, context, answer, unasked)
    except UpstreamError as error:
        yield from cut_stream(context, error)
        return
    if _is_stream(answer) and context.usage is not None and not context.usage.usage.finished:
        yield from _end_incomplete(context, answer, last)
    else:
        yield finish(context, last)


def _relay_whole(
    environment: Environment, context: RequestContext, answer: Answer, usage: UsageReader, fields: Headers
) -> Steps[bool]:
    """Relay a response whose head waits for the body, which has the count of cached prompt tokens.

    Of a body over 64 KiB, relay the beginning without that count and return False.

    Raises:
        UpstreamError: the response was cut off before anything was written.
    """
    receive = Receive(answer.upstream)
    piece: Piece = answer.held or (yield from next_piece(context, answer, receive))
    context.first_byte = environment.now()
    data = answer.take(piece)
    usage.feed(data)
    while not answer.complete and len(data) < _HELD:
        piece = yield from next_piece(context, answer, receive)
        usage.feed(more := answer.take(piece))
        data += more
    answer.held = None
    cached = usage.usage.cached_tokens if answer.complete else None
    if cached is not None:
        fields = [*fields, (b"x-router-cached-tokens", b"%d" % cached)]
    yield from write_head(context, answer.status, fields)
    if answer.complete:
        yield finish(context, data)
    else:
        yield write(context, data)
    return answer.complete


def _is_stream(answer: Answer) -> bool:
    """Whether a response is a stream by its content type; a streaming request may get a complete response."""
    kind = dict(answer.upstream.headers).get(b"content-type", b"").partition(b";")[0].strip().lower()
    return kind in _STREAMS


def _end_incomplete(context: RequestContext, answer: Answer, last: bytes) -> Steps[None]:
    """End a stream that its server ended early: cut it with an error, unless it has one or a declared length."""
    told = context.usage is not None and context.usage.usage.failed
    how = "with an error" if told else "before the answer was complete"
    error = UpstreamIncomplete(f"{answer.destination.name} ended the stream {how}")
    if told or context.framed:
        context.error = error
        yield finish(context, last)
        return
    if last:
        yield write(context, last)
    yield from cut_stream(context, error)


def _relay_pieces(
    environment: Environment, context: RequestContext, answer: Answer, unasked: UsageChunkFilter | None
) -> Steps[bytes]:
    """Relay all pieces but the last, which is returned; remove usage chunks that the client did not request.

    Raises:
        UpstreamError: the response was cut off.
    """
    usage, heartbeat = context.usage, answer.heartbeat
    receive = Receive(answer.upstream)
    piece: Piece = answer.held or (yield from next_piece(context, answer, receive))
    if context.first_byte is None:
        context.first_byte = environment.now()
    while True:
        data = answer.take(piece)
        if usage is not None:
            usage.feed(data)
        if unasked is not None:
            data = unasked.feed(data, last=answer.complete)
        if answer.complete:
            return data
        if data:
            context.bytes_out += len(data)
            yield Write(data)
        if heartbeat is None:
            piece = yield receive
        else:
            heartbeat.wrote(data)
            piece = yield from heartbeat.receive(context, answer.upstream)


def next_piece(context: RequestContext, answer: Answer, receive: Receive) -> Steps[Piece]:
    """Wait for the next piece of a response, with its heartbeats."""
    if answer.heartbeat is not None:
        return (yield from answer.heartbeat.receive(context, answer.upstream))
    piece: Piece = yield receive
    return piece


def relay_late_error(context: RequestContext, answer: Answer) -> Steps[None]:
    """Write an error response to the end of a stream that heartbeats began, and cut the stream."""
    body = yield from read_error(answer)
    problem = read_host_error(answer.status, body)
    context.error = RefusedLate(f"{answer.destination.name} answered with {answer.status} after heartbeats were sent")
    tail = error_tail(context.family, problem.status, problem.message, code=problem.code, request_id=context.id)
    yield write(context, tail)
    yield Cut()


def _relay_redacted(context: RequestContext, answer: Answer, fields: Headers) -> Steps[None]:
    """Relay an error of an external host, buffered and redacted, as it may echo the router's key."""
    body = yield from read_error(answer)
    body = body[:LONGEST_ERROR]
    kept = [field for field in fields if field[0] != b"content-length"] + retry_field(answer, fields)
    yield from write_head(context, answer.status, [*kept, (b"content-length", b"%d" % len(body))])
    yield finish(context, body)


def retry_field(answer: Answer, fields: Headers) -> list[tuple[bytes, bytes]]:
    """Return `X-Should-Retry` from the host's profile, unless the field is present."""
    if answer.retry is None or b"x-should-retry" in dict(fields):
        return []
    return [(b"x-should-retry", b"true" if answer.status in answer.retry else b"false")]


def answer_head(context: RequestContext, answer: Answer, *, rewritten: bool = False) -> list[tuple[bytes, bytes]]:
    """Build the client's response fields; for a `rewritten` body the caller adds type and length."""
    fields = answer_fields(answer.upstream.headers, rewritten=rewritten)
    if answer.destination.secrets:
        fields = [(name, answer.destination.redact(value)) for name, value in fields]
    fields += context.router_fields()
    server, decision = answer.destination.name, context.decision
    fields.append(server_field(server))
    if decision is not None:
        fields.append((b"x-router-reason", reason_field(_reason(decision, server))))
    if context.attempts > 1 and answer.status in REJECTIONS:
        fields.append((b"x-should-retry", b"false"))  # every available server has refused
    if context.route is not None and context.route.stream:
        fields.append((b"x-accel-buffering", b"no"))
        if b"cache-control" not in dict(fields):
            fields.append((b"cache-control", b"no-cache"))
    return fields


def _reason(decision: Decision, server: str) -> str:
    if server == decision.server:
        return decision.reason
    return next((verdict.text for verdict in decision.verdicts if verdict.server == server), decision.reason)
