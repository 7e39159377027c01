"""Translation of a host's whole reply, or its error, into the client's dialect; and the router's own errors there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, assert_never

from msgspec.structs import replace

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.answer_order import ReplyCollector, events_of_reply
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.codec import ConversationRoute, EmbeddingRoute, Route
from ollama_router_core.translate.confidential import Confidential
from ollama_router_core.translate.conversation import NO_REPLY_OPTIONS, ReplyOptions
from ollama_router_core.translate.errors import UntranslatableReply
from ollama_router_core.translate.host_errors import is_final, read_host_error
from ollama_router_core.translate.json_text import JsonError, encode
from ollama_router_core.translate.kept_thoughts import ThoughtsCollector, TurnThoughts
from ollama_router_core.translate.lenient_json import reply_object
from ollama_router_core.translate.registry import codec_of
from ollama_router_core.translate.replies import Reply, ReplyIdentity, Timings
from ollama_router_core.translate.think_tags import without_think_tags
from ollama_router_core.translate.timestamps import call_id

__all__ = ["TranslatedError", "error_body", "error_tail", "translate_error", "translate_reply", "written_error"]


def translate_reply(
    body: bytes,
    *,
    source: Route,
    target: Route,
    identity: ReplyIdentity,
    options: ReplyOptions = NO_REPLY_OPTIONS,
    elapsed_ns: int = 0,
    keep: Callable[[TurnThoughts], None] | None = None,
) -> bytes:
    """Translate a host's reply on the route `source` for the client's route `target`.

    `elapsed_ns` is the duration of the reply, for an Ollama client of a host that does not report it. `keep` is called
    with the reasoning before tool calls, if their host may require it back.

    Raises:
        HostFailed: the reply is an error.
        UpstreamIncomplete: the host streamed its reply, and it is incomplete.
        UntranslatableReply: the body is not a reply of `source`, or `target` cannot express it.
    """
    measured = Timings(total_ns=elapsed_ns)
    try:
        return encode(_rewrite(body, source, target, identity, options, measured, keep))
    except JsonError as error:
        raise UntranslatableReply(f"the server's answer cannot be translated: {error}") from None


def _rewrite(
    body: bytes,
    source: Route,
    target: Route,
    identity: ReplyIdentity,
    options: ReplyOptions,
    took: Timings,
    keep: Callable[[TurnThoughts], None] | None,
) -> dict[str, Any]:
    match source:
        case ConversationRoute():
            if not isinstance(target, ConversationRoute):
                raise _unlike(source, target)
            reply = without_think_tags(_read(body, source))
            if keep is not None and (turn := _thoughts(reply, identity)) is not None:
                keep(turn)
            return target.write_reply(replace(reply, timings=reply.timings or took), identity, options)
        case EmbeddingRoute():
            if not isinstance(target, EmbeddingRoute):
                raise _unlike(source, target)
            vectors = source.read_reply(reply_object(body))
            return target.write_reply(replace(vectors, timings=vectors.timings or took), identity, options)
        case _:
            assert_never(source)


def _thoughts(reply: Reply, identity: ReplyIdentity) -> TurnThoughts | None:
    collector = ThoughtsCollector(partial(call_id, identity))
    for event in events_of_reply(reply):
        collector.add(event)
    return collector.turn()


def _read(body: bytes, source: ConversationRoute) -> Reply:
    """Parse a reply, also one that the host streamed unrequested."""
    framing = codec_of(source.family).framing
    if not framing.is_stream(body):
        return source.read_reply(reply_object(body))
    frames, reader = framing.frames(len(body)), source.stream_reader()
    collector = ReplyCollector(len(body))
    for payload in (*frames.feed(body), *frames.end()):
        for event in reader.read(payload):
            collector.add(event)
    for event in () if collector.reply else reader.end():
        collector.add(event)
    return collector.whole()


def _unlike(source: Route, target: Route) -> UntranslatableReply:
    return UntranslatableReply(f"an answer of {source.path} cannot be translated to {target.path}")


class TranslatedError(Confidential, frozen=True, kw_only=True):
    """An error response for the client. A host that rejects the router's key is a 502 for the client, not a 401.

    `retry` is False if a retry would fail, None if the status is sufficient for clients.
    """

    status: int
    body: bytes
    retry: bool | None = None


def translate_error(status: int, body: bytes, *, target: Route, request_id: str) -> TranslatedError:
    """Translate a host's error response, in any form, into the client's dialect. Never raises."""
    return written_error(read_host_error(status, body), target=target, request_id=request_id)


def written_error(error: ApiError, *, target: Route, request_id: str) -> TranslatedError:
    """Encode an error in the client's dialect, also one found in a response with the status 200."""
    body = codec_of(target.family).write_error(error, request_id)
    return TranslatedError(status=error.status, body=body, retry=False if is_final(error) else None)


def error_body(family: Family, status: int, message: str, *, code: str, request_id: str) -> bytes:
    """Return the JSON body of an error response; `code` is the router's stable code, for dialects that have one."""
    return codec_of(family).write_error(ApiError(message=message, status=status, code=code), request_id)


def error_tail(family: Family, status: int, message: str, *, code: str, request_id: str) -> bytes:
    """Return the final line or event of a stream that fails after its start."""
    return codec_of(family).write_stream_error(ApiError(message=message, status=status, code=code), request_id)
