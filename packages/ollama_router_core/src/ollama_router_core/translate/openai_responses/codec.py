"""OpenAI's dialect of `/v1/responses`."""

from __future__ import annotations

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.accepts import Accepts, CallIds
from ollama_router_core.translate.codec import Codec, ConversationRoute
from ollama_router_core.translate.openai.errors import write_error
from ollama_router_core.translate.openai_responses.errors import write_error_event
from ollama_router_core.translate.openai_responses.read_requests import read_response_request
from ollama_router_core.translate.openai_responses.replies import read_response, write_response
from ollama_router_core.translate.openai_responses.stream_reader import ResponsesReader
from ollama_router_core.translate.openai_responses.stream_writer import ResponsesWriter
from ollama_router_core.translate.openai_responses.token_counts import RESPONSES_TOKEN_COUNTS
from ollama_router_core.translate.openai_responses.write_requests import write_response_request

__all__ = ["OPENAI_RESPONSES", "RESPONSES"]

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
RESPONSES = Codec(
    family=Family.OPENAI_RESPONSES,
    routes=(OPENAI_RESPONSES,),
    chat=OPENAI_RESPONSES,
    token_counts=RESPONSES_TOKEN_COUNTS,
    accepts=Accepts(
        file_types=frozenset({"application/pdf"}), file_addresses=True, result_files=True, call_ids=CallIds(longest=64)
    ),
    hosted_tools="search",
    serves=lambda endpoint, _traits: endpoint.family is Family.OPENAI_RESPONSES,
    write_error=write_error,
    write_stream_error=write_error_event,
)
"""OpenAI's `/v1/responses`, without server-side state."""
