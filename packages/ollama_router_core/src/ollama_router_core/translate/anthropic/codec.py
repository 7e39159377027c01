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
from ollama_router_core.translate.codec import Codec, ConversationRoute
from ollama_router_core.translate.external_models import ExternalModel
from ollama_router_core.translate.replies import QueuePlace, ReplyIdentity
from ollama_router_core.translate.timestamps import rfc3339

__all__ = ["ANTHROPIC", "ANTHROPIC_MESSAGES"]


ANTHROPIC_MESSAGES = ConversationRoute(
    name="anthropic_messages",
    family=Family.ANTHROPIC,
    path="/v1/messages",
    read_request=read_messages,
    write_request=write_messages,
    read_reply=read_reply,
    write_reply=write_reply,
    stream_reader=AnthropicReader,
    stream_writer=AnthropicWriter,
)


def _model_entry(model: ExternalModel) -> dict[str, Any]:
    created = rfc3339(model.since_ns)
    return {"type": "model", "id": model.name, "display_name": model.name, "created_at": created}


def _ping(_path: str, _identity: ReplyIdentity, place: QueuePlace | None) -> bytes | None:
    comment = b"" if place is None else place.comment
    return comment + b'event: ping\ndata: {"type": "ping"}\n\n'


ANTHROPIC = Codec(
    family=Family.ANTHROPIC,
    routes=(ANTHROPIC_MESSAGES,),
    chat=ANTHROPIC_MESSAGES,
    token_counts=ANTHROPIC_TOKEN_COUNTS,
    accepts=Accepts(
        later_system="wrapped",
        file_types=frozenset({"application/pdf", "text/plain"}),
        file_addresses=True,
        result_files=True,
        call_ids=CallIds(alphabet="word"),
        cache_marks=True,
    ),
    hosted_tools="passed_on",
    domains=("anthropic.com",),
    client_base="",
    effort_member="output_config",
    key_field=(b"x-api-key", b""),
    request_fields=((b"anthropic-version", b"2023-06-01"),),
    serves=lambda endpoint, _traits: endpoint.family is Family.ANTHROPIC,
    write_error=errors.write_error,
    write_stream_error=errors.write_stream_error,
    model_entry=_model_entry,
    heartbeat=_ping,
)
"""Anthropic's API."""
