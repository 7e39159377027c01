"""Ollama's dialect."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.accepts import Accepts
from ollama_router_core.translate.codec import Codec, ConversationRoute, EmbeddingRoute
from ollama_router_core.translate.embeddings import write_inputs
from ollama_router_core.translate.external_models import ExternalModel
from ollama_router_core.translate.framing import NDJSON
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.ollama import embeddings, errors, read_requests, replies, write_requests
from ollama_router_core.translate.ollama.listings import load_reply, show_reply, tags_entry
from ollama_router_core.translate.ollama.streams import OllamaReader, OllamaWriter
from ollama_router_core.translate.ollama.token_counts import OLLAMA_TOKEN_COUNTS
from ollama_router_core.translate.replies import QueuePlace, ReplyIdentity

__all__ = ["OLLAMA", "OLLAMA_CHAT", "OLLAMA_EMBED", "OLLAMA_EMBEDDINGS", "OLLAMA_GENERATE"]


OLLAMA_CHAT = ConversationRoute(
    name="ollama_chat",
    family=Family.OLLAMA,
    path="/api/chat",
    read_request=read_requests.read_chat,
    write_request=write_requests.write_chat,
    read_reply=replies.read_chat_reply,
    write_reply=replies.write_chat_reply,
    stream_reader=partial(OllamaReader, chat=True),
    stream_writer=partial(OllamaWriter, chat=True),
)
OLLAMA_GENERATE = ConversationRoute(
    name="ollama_generate",
    family=Family.OLLAMA,
    path="/api/generate",
    read_request=read_requests.read_generate,
    write_request=write_requests.write_generate,
    read_reply=replies.read_generate_reply,
    write_reply=replies.write_generate_reply,
    stream_reader=partial(OllamaReader, chat=False),
    stream_writer=partial(OllamaWriter, chat=False),
    plain_prompt=True,
)
OLLAMA_EMBED = EmbeddingRoute(
    name="ollama_embed",
    family=Family.OLLAMA,
    path="/api/embed",
    read_request=embeddings.read_embed,
    write_request=write_inputs,
    read_reply=embeddings.read_embed_reply,
    write_reply=embeddings.write_embed_reply,
)
OLLAMA_EMBEDDINGS = EmbeddingRoute(
    name="ollama_embeddings",
    family=Family.OLLAMA,
    path="/api/embeddings",
    read_request=embeddings.read_embeddings,
    write_request=embeddings.write_embeddings,
    read_reply=embeddings.read_embeddings_reply,
    write_reply=embeddings.write_embeddings_reply,
)

_EMPTY_CHUNKS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {"/api/chat": {"message": {"role": "assistant", "content": ""}}, "/api/generate": {"response": ""}}
)


def _heartbeat(path: str, identity: ReplyIdentity, place: QueuePlace | None) -> bytes | None:
    """Return an empty chunk: clients parse every line, and an empty line fails."""
    empty = _EMPTY_CHUNKS.get(path)
    if empty is None:
        return None
    waiting = {} if place is None else {"router": place.members}
    return encode({**replies.head_fields(identity), **empty, "done": False, **waiting}) + b"\n"


def _answer_locally(path: str, body: Mapping[str, Any], model: ExternalModel, identity: ReplyIdentity) -> bytes | None:
    return encode(show_reply(model)) if path == "/api/show" else load_reply(path, body, identity)


OLLAMA = Codec(
    family=Family.OLLAMA,
    routes=(OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_EMBED, OLLAMA_EMBEDDINGS),
    chat=OLLAMA_CHAT,
    prompt=OLLAMA_GENERATE,
    embeddings=OLLAMA_EMBED,
    framing=NDJSON,
    token_counts=OLLAMA_TOKEN_COUNTS,
    accepts=Accepts(image_types=None, image_addresses=False, paired=False),
    hosted_tools="passed_on",
    domains=("ollama.com",),
    base_path="",
    client_base="",
    serves=lambda _endpoint, _traits: True,
    write_error=errors.write_error,
    write_stream_error=errors.write_stream_error,
    model_entry=tags_entry,
    heartbeat=_heartbeat,
    answer_locally=_answer_locally,
)
"""Ollama's own API. An Ollama server also has the routes of the other dialects."""
