"""Ollama's dialect."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, assert_never

from ollama_router_core.api.endpoints import Endpoint, Family
from ollama_router_core.translate.accepts import Accepts
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.codec import Codec, ConversationRoute, EmbeddingRoute, HostTraits, Route
from ollama_router_core.translate.conversation import ReplyOptions
from ollama_router_core.translate.embeddings import write_inputs
from ollama_router_core.translate.external_models import ExternalModel
from ollama_router_core.translate.framing import NDJSON
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.ollama import embeddings, errors, read_requests, replies, write_requests
from ollama_router_core.translate.ollama.listings import load_reply, show_reply, tags_entry
from ollama_router_core.translate.ollama.streams import OllamaReader, OllamaWriter
from ollama_router_core.translate.ollama.token_counts import OLLAMA_TOKEN_COUNTS
from ollama_router_core.translate.replies import QueuePlace, ReplyIdentity

__all__ = ["OLLAMA_CHAT", "OLLAMA_EMBED", "OLLAMA_EMBEDDINGS", "OLLAMA_GENERATE", "OllamaCodec"]


def _chat_writer(identity: ReplyIdentity, _options: ReplyOptions, max_bytes: int) -> OllamaWriter:
    return OllamaWriter(identity, chat=True, max_bytes=max_bytes)


def _generate_writer(identity: ReplyIdentity, _options: ReplyOptions, max_bytes: int) -> OllamaWriter:
    return OllamaWriter(identity, chat=False, max_bytes=max_bytes)


OLLAMA_CHAT = ConversationRoute(
    name="ollama_chat",
    family=Family.OLLAMA,
    path="/api/chat",
    read_request=read_requests.read_chat,
    write_request=write_requests.write_chat,
    read_reply=replies.read_chat_reply,
    write_reply=replies.write_chat_reply,
    stream_reader=partial(OllamaReader, chat=True),
    stream_writer=_chat_writer,
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
    stream_writer=_generate_writer,
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


class OllamaCodec(Codec):
    """Ollama's own API. An Ollama server has the routes of the other dialects too."""

    family = Family.OLLAMA
    routes = (OLLAMA_CHAT, OLLAMA_GENERATE, OLLAMA_EMBED, OLLAMA_EMBEDDINGS)
    framing = NDJSON
    token_counts = OLLAMA_TOKEN_COUNTS
    accepts = Accepts(image_types=None, image_addresses=False, paired=False)
    hosted_tools = "passed_on"
    domains = ("ollama.com",)
    base_path = ""
    client_base = ""

    def serves(self, _endpoint: Endpoint, _traits: HostTraits) -> bool:
        """See `Codec.serves`."""
        return True

    def route_for(self, source: Route) -> Route:
        """See `Codec.route_for`: a plain prompt stays a plain prompt."""
        if source.family is self.family:
            return source
        match source:
            case EmbeddingRoute():
                return OLLAMA_EMBED
            case ConversationRoute():
                return OLLAMA_GENERATE if source.plain_prompt else OLLAMA_CHAT
            case _:
                assert_never(source)

    def write_error(self, error: ApiError, _request_id: str) -> bytes:
        """See `Codec.write_error`."""
        return errors.write_error(error)

    def write_stream_error(self, error: ApiError, _request_id: str) -> bytes:
        """See `Codec.write_stream_error`."""
        return errors.write_stream_error(error)

    def model_entry(self, model: ExternalModel) -> dict[str, Any]:
        """See `Codec.model_entry`."""
        return tags_entry(model)

    def heartbeat(self, path: str, identity: ReplyIdentity, place: QueuePlace | None = None) -> bytes | None:
        """See `Codec.heartbeat`: clients parse every line; an empty line fails, an empty chunk does not."""
        empty = _EMPTY_CHUNKS.get(path)
        if empty is None:
            return None
        told = {} if place is None else {"router": place.members}
        return encode({**replies.head_fields(identity), **empty, "done": False, **told}) + b"\n"

    def answer_locally(
        self, path: str, body: Mapping[str, Any], model: ExternalModel, identity: ReplyIdentity
    ) -> bytes | None:
        """See `Codec.answer_locally`: `/api/show` returns the settings' facts, and a load completes at once."""
        return encode(show_reply(model)) if path == "/api/show" else load_reply(path, body, identity)
