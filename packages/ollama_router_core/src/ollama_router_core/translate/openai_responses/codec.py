"""OpenAI's dialect of `/v1/responses`."""

from __future__ import annotations

from typing import Any

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.accepts import Accepts, CallIds
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.codec import Codec, ConversationRoute, EmbeddingRoute, Route
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.external_models import ExternalModel
from ollama_router_core.translate.framing import SERVER_SENT_EVENTS
from ollama_router_core.translate.openai.errors import write_error
from ollama_router_core.translate.openai.listings import model_entry
from ollama_router_core.translate.openai_responses.errors import write_error_event
from ollama_router_core.translate.openai_responses.read_requests import read_response_request
from ollama_router_core.translate.openai_responses.replies import read_response, write_response
from ollama_router_core.translate.openai_responses.stream_reader import ResponsesReader
from ollama_router_core.translate.openai_responses.stream_writer import ResponsesWriter
from ollama_router_core.translate.openai_responses.token_counts import RESPONSES_TOKEN_COUNTS
from ollama_router_core.translate.openai_responses.write_requests import write_response_request

__all__ = ["OPENAI_RESPONSES", "ResponsesCodec"]

OPENAI_RESPONSES = ConversationRoute(
    name="openai_responses",
    family=Family.OPENAI_RESPONSES,
    path="/v1/responses",
    read_request=read_response_request,
    write_request=write_response_request,
    read_reply=read_response,
    write_reply=write_response,
    stream_reader=ResponsesReader,
    stream_writer=ResponsesWriter,
)


class ResponsesCodec(Codec):
    """OpenAI's `/v1/responses`, without server-side state."""

    family = Family.OPENAI_RESPONSES
    routes = (OPENAI_RESPONSES,)
    framing = SERVER_SENT_EVENTS
    token_counts = RESPONSES_TOKEN_COUNTS
    accepts = Accepts(
        file_types=frozenset({"application/pdf"}), file_addresses=True, result_files=True, call_ids=CallIds(longest=64)
    )
    hosted_tools = "search"

    def route_for(self, source: Route) -> Route:
        """See `Codec.route_for`: responses are the only route."""
        if isinstance(source, EmbeddingRoute):
            raise UntranslatableRequest("OpenAI's Responses have no embeddings; choose a model of another host")
        return OPENAI_RESPONSES

    def write_error(self, error: ApiError, _request_id: str) -> bytes:
        """See `Codec.write_error`."""
        return write_error(error)

    def write_stream_error(self, error: ApiError, _request_id: str) -> bytes:
        """See `Codec.write_stream_error`."""
        return write_error_event(error)

    def model_entry(self, model: ExternalModel) -> dict[str, Any]:
        """See `Codec.model_entry`."""
        return model_entry(model)
