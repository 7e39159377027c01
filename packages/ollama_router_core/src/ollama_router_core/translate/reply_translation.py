"""A host's whole answer, or its error, into the client's dialect."""

from __future__ import annotations

from typing import Any, assert_never

from msgspec.structs import replace

from ollama_router_core.translate.codec import ConversationRoute, EmbeddingRoute, Route
from ollama_router_core.translate.confidential import Confidential
from ollama_router_core.translate.conversation import NO_REPLY_OPTIONS, ReplyOptions
from ollama_router_core.translate.errors import UntranslatableReply
from ollama_router_core.translate.json_text import JsonError, encode
from ollama_router_core.translate.lenient_json import reply_object
from ollama_router_core.translate.registry import codec_of
from ollama_router_core.translate.replies import ReplyIdentity, Timings

__all__ = ["TranslatedError", "translate_error", "translate_reply"]


def translate_reply(
    body: bytes,
    *,
    source: Route,
    target: Route,
    identity: ReplyIdentity,
    options: ReplyOptions = NO_REPLY_OPTIONS,
    elapsed_ns: int = 0,
) -> bytes:
    """Say as `target`, the client's route, what a host answered on `source`.

    `elapsed_ns` is how long the answer took, for an Ollama client of a host that does not say.

    Raises:
        UntranslatableReply: the body is not an answer of `source`, or `target` cannot express it.
    """
    value = reply_object(body)
    measured = Timings(total_ns=elapsed_ns)
    try:
        return encode(_rewrite(value, source, target, identity, options, measured))
    except JsonError as error:
        raise UntranslatableReply(f"the server's answer cannot be carried over: {error}") from None


def _rewrite(
    value: dict[str, Any], source: Route, target: Route, identity: ReplyIdentity, options: ReplyOptions, took: Timings
) -> dict[str, Any]:
    match source:
        case ConversationRoute():
            if not isinstance(target, ConversationRoute):
                raise _unlike(source, target)
            reply = source.read_reply(value)
            return target.write_reply(replace(reply, timings=reply.timings or took), identity, options)
        case EmbeddingRoute():
            if not isinstance(target, EmbeddingRoute):
                raise _unlike(source, target)
            vectors = source.read_reply(value)
            return target.write_reply(replace(vectors, timings=vectors.timings or took), identity, options)
        case _:
            assert_never(source)


def _unlike(source: Route, target: Route) -> UntranslatableReply:
    return UntranslatableReply(f"an answer of {source.path} cannot be given on {target.path}")


class TranslatedError(Confidential, frozen=True, kw_only=True):
    """An error answer for the client. A host that refuses the router's own key is a 502 to the client, not a 401."""

    status: int
    body: bytes


def translate_error(status: int, body: bytes, *, source: Route, target: Route, request_id: str) -> TranslatedError:
    """Put a host's error answer, in whatever shape it came, into the client's dialect. Never raises."""
    error = codec_of(source.family).read_error(status, body)
    return TranslatedError(status=error.status, body=codec_of(target.family).write_error(error, request_id))
