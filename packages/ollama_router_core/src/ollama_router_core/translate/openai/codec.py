"""OpenAI's dialect, as most compatible hosts support it: chat completions, completions, embeddings."""

from __future__ import annotations

from typing import Any, assert_never

from ollama_router_core.api.endpoints import Endpoint, Family
from ollama_router_core.translate.accepts import OPENAI_DEFAULT
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.codec import Codec, ConversationRoute, EmbeddingRoute, HostTraits, Route
from ollama_router_core.translate.conversation import ReplyOptions
from ollama_router_core.translate.external_models import ExternalModel
from ollama_router_core.translate.framing import SERVER_SENT_EVENTS
from ollama_router_core.translate.openai import completions, embeddings, errors, read_requests, replies, write_requests
from ollama_router_core.translate.openai.listings import model_entry
from ollama_router_core.translate.openai.streams import OpenAIReader, OpenAIWriter
from ollama_router_core.translate.openai.token_counts import OPENAI_TOKEN_COUNTS
from ollama_router_core.translate.replies import ReplyIdentity

__all__ = ["OPENAI_CHAT", "OPENAI_COMPLETIONS", "OPENAI_EMBEDDINGS", "OpenAICodec"]


def _chat_writer(identity: ReplyIdentity, options: ReplyOptions, _max_bytes: int) -> OpenAIWriter:
    return OpenAIWriter(identity, options, chat=True)


def _completion_writer(identity: ReplyIdentity, options: ReplyOptions, _max_bytes: int) -> OpenAIWriter:
    return OpenAIWriter(identity, options, chat=False)


OPENAI_CHAT = ConversationRoute(
    name="openai_chat",
    family=Family.OPENAI,
    path="/v1/chat/completions",
    read_request=read_requests.read_chat,
    write_request=write_requests.write_chat,
    read_reply=replies.read_chat_reply,
    write_reply=replies.write_chat_reply,
    stream_reader=OpenAIReader,
    stream_writer=_chat_writer,
)
OPENAI_COMPLETIONS = ConversationRoute(
    name="openai_completions",
    family=Family.OPENAI,
    path="/v1/completions",
    read_request=completions.read_completion,
    write_request=completions.write_completion,
    read_reply=replies.read_completion_reply,
    write_reply=replies.write_completion_reply,
    stream_reader=OpenAIReader,
    stream_writer=_completion_writer,
    plain_prompt=True,
)
OPENAI_EMBEDDINGS = EmbeddingRoute(
    name="openai_embeddings",
    family=Family.OPENAI,
    path="/v1/embeddings",
    read_request=embeddings.read_embedding,
    write_request=embeddings.write_embedding,
    read_reply=embeddings.read_embedding_reply,
    write_reply=embeddings.write_embedding_reply,
)


class OpenAICodec(Codec):
    """OpenAI's API except `/v1/responses`, which is a separate dialect."""

    family = Family.OPENAI
    routes = (OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS)
    framing = SERVER_SENT_EVENTS
    token_counts = OPENAI_TOKEN_COUNTS
    accepts = OPENAI_DEFAULT
    hosted_tools = "left_out"
    domains = ("openai.com",)
    counts_on_request = True

    def serves(self, endpoint: Endpoint, traits: HostTraits) -> bool:
        """See `Codec.serves`."""
        return endpoint.family is self.family or (endpoint.family is Family.OPENAI_RESPONSES and traits.responses)

    def route_for(self, source: Route) -> Route:
        """See `Codec.route_for`: a plain prompt becomes a chat with one message, as hosts serve chats."""
        if source.family is self.family:
            return source
        match source:
            case EmbeddingRoute():
                return OPENAI_EMBEDDINGS
            case ConversationRoute():
                return OPENAI_CHAT
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
        return model_entry(model)
