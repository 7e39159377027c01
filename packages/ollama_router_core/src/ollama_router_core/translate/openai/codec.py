"""OpenAI's dialect, as most compatible hosts support it: chat completions, completions, embeddings."""

from __future__ import annotations

from functools import partial

from ollama_router_core.api.endpoints import Endpoint, Family
from ollama_router_core.translate.accepts import OPENAI_DEFAULT
from ollama_router_core.translate.codec import Codec, ConversationRoute, EmbeddingRoute, HostTraits
from ollama_router_core.translate.openai import completions, embeddings, errors, read_requests, replies, write_requests
from ollama_router_core.translate.openai.streams import OpenAIReader, OpenAIWriter
from ollama_router_core.translate.openai.token_counts import OPENAI_TOKEN_COUNTS

__all__ = ["OPENAI", "OPENAI_CHAT", "OPENAI_COMPLETIONS", "OPENAI_EMBEDDINGS"]


OPENAI_CHAT = ConversationRoute(
    name="openai_chat",
    family=Family.OPENAI,
    path="/v1/chat/completions",
    read_request=read_requests.read_chat,
    write_request=write_requests.write_chat,
    read_reply=replies.read_chat_reply,
    write_reply=replies.write_chat_reply,
    stream_reader=OpenAIReader,
    stream_writer=partial(OpenAIWriter, chat=True),
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
    stream_writer=partial(OpenAIWriter, chat=False),
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


def _serves(endpoint: Endpoint, traits: HostTraits) -> bool:
    return endpoint.family is Family.OPENAI or (endpoint.family is Family.OPENAI_RESPONSES and traits.responses)


OPENAI = Codec(
    family=Family.OPENAI,
    routes=(OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS),
    chat=OPENAI_CHAT,
    embeddings=OPENAI_EMBEDDINGS,
    token_counts=OPENAI_TOKEN_COUNTS,
    accepts=OPENAI_DEFAULT,
    hosted_tools="left_out",
    domains=("openai.com",),
    counts_on_request=True,
    serves=_serves,
    write_error=errors.write_error,
    write_stream_error=errors.write_stream_error,
)
"""OpenAI's API except `/v1/responses`, which is a separate dialect. Hosts serve chats, so it has no `prompt`."""
