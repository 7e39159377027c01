"""Anthropic's dialect."""

from __future__ import annotations

from typing import Any

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.accepts import Accepts, CallIds
from ollama_router_core.translate.anthropic import errors
from ollama_router_core.translate.anthropic.read_requests import read_messages
from ollama_router_core.translate.anthropic.replies import read_reply, write_reply
from ollama_router_core.translate.anthropic.streams import AnthropicReader, AnthropicWriter
from ollama_router_core.translate.anthropic.token_counts import ANTHROPIC_TOKEN_COUNTS
from ollama_router_core.translate.anthropic.write_requests import write_messages
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.codec import Codec, ConversationRoute, EmbeddingRoute, HeaderField, Route
from ollama_router_core.translate.conversation import ReplyOptions
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.external_models import ExternalModel
from ollama_router_core.translate.framing import SERVER_SENT_EVENTS
from ollama_router_core.translate.replies import QueuePlace, ReplyIdentity
from ollama_router_core.translate.timestamps import rfc3339

__all__ = ["ANTHROPIC_MESSAGES", "AnthropicCodec"]


def _writer(identity: ReplyIdentity, _options: ReplyOptions, max_bytes: int) -> AnthropicWriter:
    return AnthropicWriter(identity, max_bytes)


ANTHROPIC_MESSAGES = ConversationRoute(
    name="anthropic_messages",
    family=Family.ANTHROPIC,
    path="/v1/messages",
    read_request=read_messages,
    write_request=write_messages,
    read_reply=read_reply,
    write_reply=write_reply,
    stream_reader=AnthropicReader,
    stream_writer=_writer,
)


class AnthropicCodec(Codec):
    """Anthropic's API."""

    family = Family.ANTHROPIC
    routes = (ANTHROPIC_MESSAGES,)
    framing = SERVER_SENT_EVENTS
    token_counts = ANTHROPIC_TOKEN_COUNTS
    accepts = Accepts(
        later_system="wrapped",
        file_types=frozenset({"application/pdf", "text/plain"}),
        file_addresses=True,
        result_files=True,
        call_ids=CallIds(alphabet="word"),
        cache_marks=True,
    )
    hosted_tools = "passed_on"
    domains = ("anthropic.com",)
    client_base = ""
    effort_member = "output_config"
    request_fields = ((b"anthropic-version", b"2023-06-01"),)

    def route_for(self, source: Route) -> Route:
        """See `Codec.route_for`: messages are the only route."""
        if isinstance(source, EmbeddingRoute):
            raise UntranslatableRequest("Anthropic has no embeddings; choose a model of another host")
        return ANTHROPIC_MESSAGES

    def write_error(self, error: ApiError, request_id: str) -> bytes:
        """See `Codec.write_error`."""
        return errors.write_error(error, request_id)

    def write_stream_error(self, error: ApiError, request_id: str) -> bytes:
        """See `Codec.write_stream_error`."""
        return errors.write_stream_error(error, request_id)

    def model_entry(self, model: ExternalModel) -> dict[str, Any]:
        """See `Codec.model_entry`."""
        created = rfc3339(model.since_ns)
        return {"type": "model", "id": model.name, "display_name": model.name, "created_at": created}

    def credential(self, key: bytes) -> HeaderField:
        """See `Codec.credential`."""
        return (b"x-api-key", key)

    def heartbeat(self, _path: str, _identity: ReplyIdentity, place: QueuePlace | None = None) -> bytes | None:
        """See `Codec.heartbeat`: a stream may contain any number of pings."""
        told = b"" if place is None else place.comment
        return told + b'event: ping\ndata: {"type": "ping"}\n\n'
