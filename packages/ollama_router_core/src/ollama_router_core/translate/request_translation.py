"""Translation of a client's request into a host's dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, assert_never

from ollama_router_core.translate.codec import ConversationRoute, EmbeddingRoute, HostTraits, Route
from ollama_router_core.translate.confidential import Confidential
from ollama_router_core.translate.conversation import ReplyOptions
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.fitting import fitted
from ollama_router_core.translate.json_reader import Dropped, JsonReader
from ollama_router_core.translate.json_text import JsonError, decode, encode_exactly
from ollama_router_core.translate.kept_thoughts import Recall, with_thoughts
from ollama_router_core.translate.registry import codec_of
from ollama_router_core.translate.request_rules import NO_RULES, RequestRules, with_rules

__all__ = ["TranslatedRequest", "translate_request"]

_DEFAULT_TRAITS = HostTraits()


class TranslatedRequest(Confidential, frozen=True, kw_only=True):
    """A translated request.

    Attributes:
        body: the JSON body.
        stream: whether the reply will be a stream.
        reply_options: options for `translate_reply` or `StreamTranslator`.
        dropped: dotted names of dropped members, for the header `X-Router-Dropped`.
    """

    body: bytes
    stream: bool
    reply_options: ReplyOptions
    dropped: tuple[str, ...] = ()


def translate_request(
    body: Mapping[str, Any] | bytes,
    *,
    source: Route,
    target: Route,
    model: str,
    traits: HostTraits = _DEFAULT_TRAITS,
    rules: RequestRules = NO_RULES,
    recall: Recall | None = None,
) -> TranslatedRequest:
    """Translate a client's request on `source` for the route `target`. `model` is the model's name at the host.

    `rules` are the host's for this model; `recall` returns reasoning that the client could not send back.

    Raises:
        UntranslatableRequest: the body is invalid for `source`, or `target` cannot express it.
    """
    dropped = Dropped()
    try:
        reader = JsonReader(dict(body) if isinstance(body, Mapping) else decode(body), "", dropped)
        reader.raw("model")
        written, stream, options = _rewrite(reader, source, target, traits, dropped, recall)
        body_there = with_rules(written, rules, dropped) if rules.concern(written.keys()) else written
        text = encode_exactly({"model": model, **body_there})
    except JsonError as error:
        raise UntranslatableRequest(f"the body cannot be translated: {error}") from None
    return TranslatedRequest(body=text, stream=stream, reply_options=options, dropped=dropped.names())


def _rewrite(
    reader: JsonReader, source: Route, target: Route, traits: HostTraits, dropped: Dropped, recall: Recall | None
) -> tuple[dict[str, Any], bool, ReplyOptions]:
    """Return the body without the model, whether the reply is a stream, and the options of the reply."""
    match source:
        case ConversationRoute():
            if not isinstance(target, ConversationRoute):
                raise _unlike(source, target)
            conversation = source.read_request(reader)
            reader.close()
            if conversation.suffix is not None and not target.plain_prompt:
                raise UntranslatableRequest(f"suffix is for completions; {target.path} has no counterpart")
            accepts = traits.accepts or codec_of(target.family).accepts
            if recall is not None:
                conversation = with_thoughts(conversation, recall)
            conversation = fitted(conversation, accepts, dropped)
            written = target.write_request(conversation, traits, dropped)
            return written, conversation.stream, conversation.reply_options
        case EmbeddingRoute():
            if not isinstance(target, EmbeddingRoute):
                raise _unlike(source, target)
            request = source.read_request(reader)
            reader.close()
            return target.write_request(request, dropped), False, request.reply_options
        case _:
            assert_never(source)


def _unlike(source: Route, target: Route) -> UntranslatableRequest:
    return UntranslatableRequest(f"{source.path} cannot be translated to {target.path}")
