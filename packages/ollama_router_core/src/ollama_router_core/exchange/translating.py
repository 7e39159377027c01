"""Responses of hosts in another dialect than the client's, and responses that the router gives in their place."""

from __future__ import annotations

from functools import partial

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import UpstreamError, UpstreamProtocolError
from ollama_router_core.exchange.actions import Cut, Receive, Steps, Write
from ollama_router_core.exchange.answers import JSON_UTF8, answer_for, finish, write, write_head
from ollama_router_core.exchange.computing import computed
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Headers, Piece
from ollama_router_core.exchange.relaying import answer_head, next_piece, retry_field
from ollama_router_core.exchange.upstream_answer import Answer, read_error
from ollama_router_core.outbound.sending import Translation, answer_here
from ollama_router_core.responses.usage import UsageReader
from ollama_router_core.routing.decision import Decision
from ollama_router_core.translate import HostFailed, StreamTranslator, TranslatedError, TurnThoughts

__all__ = ["answer_locally", "relay_translated"]

_DRAIN_SECONDS = 1.0


def answer_locally(
    environment: Environment, context: RequestContext, request: ParsedRequest, decision: Decision
) -> Steps[None] | None:
    """Return the steps that answer for an external host without the route; None if the request must be forwarded."""
    destination = environment.destinations.get(decision.server or "")
    if destination is None or not destination.external:
        return None
    body = answer_here(request, destination, context.identity)
    if body is None:
        return None
    context.server = decision.server
    return answer_for(context, body, JSON_UTF8)


def relay_translated(
    environment: Environment, context: RequestContext, answer: Answer, translation: Translation
) -> Steps[None]:
    """Relay a response in the client's dialect; one that is cut off ends with its error and is cut.

    Raises:
        UpstreamError: the response was cut off before anything was written.
    """
    if answer.status >= 400:
        yield from _relay_error(context, answer, translation)
    elif translation.stream:
        yield from _relay_stream(environment, context, answer, translation)
    else:
        yield from _relay_whole(environment, context, answer, translation)


def _relay_stream(
    environment: Environment, context: RequestContext, answer: Answer, translation: Translation
) -> Steps[None]:
    translator = translation.stream_translator(context.identity)
    context.usage = UsageReader(translation.host.family, streamed=True)
    head = _head(context, answer, translation)
    try:
        written = yield from _translate_pieces(environment, context, answer, translator, head)
    except UpstreamError as error:
        written = translator.abort(error)
    if translator.failure is not None:
        context.error = translator.failure
    if isinstance(translator.failure, HostFailed) and not context.head_written:
        yield from _write_error(context, answer, translation.failure(translator.failure, context.identity))
        return
    yield from _begin(context, head)
    if translator.failure is not None:
        yield write(context, written)
        yield Cut()
        return
    if (turn := translator.thoughts) is not None:
        environment.thoughts.keep(context.user_id, turn)
    yield finish(context, written)
    yield from _drain(context, answer)


def _begin(context: RequestContext, head: Headers) -> Steps[None]:
    if not context.head_written:
        yield from write_head(context, 200, head)


def _translate_pieces(
    environment: Environment, context: RequestContext, answer: Answer, translator: StreamTranslator, head: Headers
) -> Steps[bytes]:
    """Write the translated pieces; return the last.

    The head waits for the first output, as the host may still report an error, which has its own status.

    Raises:
        UpstreamError: the response was cut off.
    """
    receive = Receive(answer.upstream)
    while not answer.complete:
        piece = yield from next_piece(context, answer, receive)
        data = answer.take(piece)
        now = environment.now()
        if context.first_byte is None:
            context.first_byte = now
        if context.usage is not None:
            context.usage.feed(data)
        written = translator.feed(data, elapsed_ns=context.elapsed_ns(now))
        if translator.done:
            return written
        if written:
            yield from _begin(context, head)
            context.bytes_out += len(written)
            yield Write(written)
    return translator.finish(elapsed_ns=context.elapsed_ns(environment.now()))


def _drain(context: RequestContext, answer: Answer) -> Steps[None]:
    """Read what follows the response (`[DONE]`), so that the connection can be reused."""
    receive = Receive(answer.upstream, _DRAIN_SECONDS)
    try:
        while not answer.complete:
            piece: Piece = yield receive
            data = answer.take(piece)
            if context.usage is not None:
                context.usage.feed(data)
    except UpstreamError:
        return


def _relay_whole(
    environment: Environment, context: RequestContext, answer: Answer, translation: Translation
) -> Steps[None]:
    usage = context.usage = UsageReader(translation.host.family, streamed=False)
    pieces = yield from _read(answer, usage, longest=translation.longest_reply)
    now = context.first_byte = environment.now()
    turns: list[TurnThoughts] = []
    reply = partial(translation.reply, pieces, context.identity, elapsed_ns=context.elapsed_ns(now), keep=turns.append)
    try:
        written = yield from computed(usage.size, reply)
    except HostFailed as error:
        context.error = error
        yield from _write_error(context, answer, translation.failure(error, context.identity))
        return
    for turn in turns:
        environment.thoughts.keep(context.user_id, turn)
    head = _head(context, answer, translation)
    if usage.usage.cached_tokens is not None:
        head.append((b"x-router-cached-tokens", b"%d" % usage.usage.cached_tokens))
    yield from _write_whole(context, 200, head, written)


def _relay_error(context: RequestContext, answer: Answer, translation: Translation) -> Steps[None]:
    body = yield from read_error(answer)
    yield from _write_error(context, answer, translation.error(answer.status, body, context.identity))


def _write_error(context: RequestContext, answer: Answer, error: TranslatedError) -> Steps[None]:
    head = answer_head(context, answer, rewritten=True)
    if error.retry is not None and b"x-should-retry" not in dict(head):
        head.append((b"x-should-retry", b"true" if error.retry else b"false"))
    head += retry_field(answer, head)
    yield from _write_whole(context, error.status, [*head, (b"content-type", JSON_UTF8)], error.body)


def _write_whole(context: RequestContext, status: int, fields: Headers, body: bytes) -> Steps[None]:
    yield from write_head(context, status, [*fields, (b"content-length", b"%d" % len(body))])
    yield finish(context, body)


def _read(answer: Answer, usage: UsageReader, *, longest: int) -> Steps[list[bytes]]:
    pieces: list[bytes] = []
    receive = Receive(answer.upstream)
    while not answer.complete:
        piece: Piece = yield receive
        data = answer.take(piece)
        usage.feed(data)
        pieces.append(data)
        if usage.size > longest:
            raise UpstreamProtocolError(f"{answer.destination.name} answered with more than {longest} bytes")
    return pieces


def _head(context: RequestContext, answer: Answer, translation: Translation) -> list[tuple[bytes, bytes]]:
    head = answer_head(context, answer, rewritten=True)
    return [*head, (b"content-type", translation.content_type)]
