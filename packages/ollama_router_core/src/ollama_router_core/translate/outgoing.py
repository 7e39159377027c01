"""A client's request into a host's dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollama_router_core.translate.anthropic.read_requests import read_messages
from ollama_router_core.translate.anthropic.write_requests import write_messages
from ollama_router_core.translate.conversation import Conversation
from ollama_router_core.translate.dialects import Dialect, TargetTraits
from ollama_router_core.translate.embeddings import read_embedding, write_embedding
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.fields import Dropped, Fields
from ollama_router_core.translate.json_text import JsonError, decode, encode_exactly
from ollama_router_core.translate.ollama import read_requests as from_ollama
from ollama_router_core.translate.ollama import write_requests as to_ollama
from ollama_router_core.translate.openai import completions
from ollama_router_core.translate.openai import read_requests as from_openai
from ollama_router_core.translate.openai import write_requests as to_openai
from ollama_router_core.translate.private import Private

__all__ = ["ReplyOptions", "TranslatedRequest", "translate_request"]

_DEFAULT_TRAITS = TargetTraits()


class ReplyOptions(Private, frozen=True, kw_only=True):
    """What the client wished for its answer and only its own dialect knows.

    Attributes:
        include_usage: OpenAI: a chunk with the usage at the end of a stream.
        base64_vectors: OpenAI: embeddings as base64.
    """

    include_usage: bool = False
    base64_vectors: bool = False


class TranslatedRequest(Private, frozen=True, kw_only=True):
    """A request ready to be sent.

    Attributes:
        dialect: the dialect of `body`; the answer will come in it.
        path: the route below the host's base address.
        body: JSON.
        stream: whether the answer will be a stream.
        reply_options: to be handed to `translate_reply` or `StreamTranslator`.
        dropped: what was left behind, dotted names, for the header `X-Router-Dropped`.
    """

    dialect: Dialect
    path: str
    body: bytes
    stream: bool
    reply_options: ReplyOptions
    dropped: tuple[str, ...] = ()


def translate_request(
    body: Mapping[str, Any] | bytes,
    *,
    source: Dialect,
    target: Dialect,
    model: str,
    traits: TargetTraits = _DEFAULT_TRAITS,
) -> TranslatedRequest:
    """Say in `target` what a client said in `source`.

    `model` is the name the host knows the model by. In one and the same dialect only the model changes.

    Raises:
        UntranslatableRequest: the body is not one of `source`, or asks for what `target` cannot express.
    """
    if source.embeds is not target.embeds:
        raise UntranslatableRequest(f"{source.path} cannot be asked as {target.path}")
    try:
        return _translate(body, source, target, model, traits)
    except JsonError as error:
        raise UntranslatableRequest(f"the body cannot be carried over: {error}") from None


def _translate(
    body: Mapping[str, Any] | bytes, source: Dialect, target: Dialect, model: str, traits: TargetTraits
) -> TranslatedRequest:
    dropped = Dropped()
    fields = Fields(dict(body) if isinstance(body, Mapping) else decode(body), "", dropped)
    if source is target:
        return _same_dialect(fields, target, model)
    fields.raw("model")
    if source.embeds:
        return _translate_embedding(fields, source, target, model, dropped)
    conversation = _read(fields, source)
    fields.close()
    written = _write(conversation, target, traits, dropped)
    return TranslatedRequest(
        dialect=target,
        path=target.path,
        body=encode_exactly({"model": model, **written}),
        stream=conversation.stream,
        reply_options=ReplyOptions(include_usage=conversation.include_usage),
        dropped=dropped.names(),
    )


def _same_dialect(fields: Fields, dialect: Dialect, model: str) -> TranslatedRequest:
    native = dialect in {Dialect.OLLAMA_CHAT, Dialect.OLLAMA_GENERATE}
    stream = fields.flag("stream")
    options = ReplyOptions()
    if dialect is Dialect.OPENAI_EMBEDDINGS:
        options = ReplyOptions(base64_vectors=fields.text("encoding_format") == "base64")
    elif dialect in {Dialect.OPENAI_CHAT, Dialect.OPENAI_COMPLETIONS}:
        options = ReplyOptions(include_usage=from_openai.read_stream_options(fields))
    return TranslatedRequest(
        dialect=dialect,
        path=dialect.path,
        body=encode_exactly({**fields.values, "model": model}),
        stream=stream is not False if native else stream is True,
        reply_options=options,
    )


def _translate_embedding(
    fields: Fields, source: Dialect, target: Dialect, model: str, dropped: Dropped
) -> TranslatedRequest:
    request = read_embedding(fields, source)
    fields.close()
    written = write_embedding(request, target, dropped)
    return TranslatedRequest(
        dialect=target,
        path=target.path,
        body=encode_exactly({"model": model, **written}),
        stream=False,
        reply_options=ReplyOptions(base64_vectors=request.base64),
        dropped=dropped.names(),
    )


def _read(fields: Fields, source: Dialect) -> Conversation:
    match source:
        case Dialect.OLLAMA_CHAT:
            return from_ollama.read_chat(fields)
        case Dialect.OLLAMA_GENERATE:
            return from_ollama.read_generate(fields)
        case Dialect.OPENAI_CHAT:
            return from_openai.read_chat(fields)
        case Dialect.OPENAI_COMPLETIONS:
            return completions.read_completion(fields)
        case _:
            return read_messages(fields)


def _write(conversation: Conversation, target: Dialect, traits: TargetTraits, dropped: Dropped) -> dict[str, Any]:
    match target:
        case Dialect.OLLAMA_CHAT:
            return to_ollama.write_chat(conversation, dropped)
        case Dialect.OLLAMA_GENERATE:
            return to_ollama.write_generate(conversation, dropped)
        case Dialect.OPENAI_CHAT:
            return to_openai.write_chat(conversation, traits, dropped)
        case Dialect.OPENAI_COMPLETIONS:
            return completions.write_completion(conversation, traits, dropped)
        case _:
            return write_messages(conversation, traits, dropped)
