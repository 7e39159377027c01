"""The interface of a dialect: one `Codec` object per package, and its routes.

A route is a table of plain functions; a missing function, or one with a wrong signature, fails type checking where the
route is defined. `registry` is the only module that imports every codec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol

from msgspec import Struct

from ollama_router_core.api.endpoints import Endpoint, Family
from ollama_router_core.translate.accepts import Accepts
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.conversation import Conversation, ReplyOptions, ThinkingLevel
from ollama_router_core.translate.embeddings import EmbeddingReply, EmbeddingRequest
from ollama_router_core.translate.errors import UntranslatableRequest
from ollama_router_core.translate.external_models import ExternalModel
from ollama_router_core.translate.framing import SERVER_SENT_EVENTS, Framing
from ollama_router_core.translate.json_reader import Dropped, JsonReader
from ollama_router_core.translate.replies import Event, QueuePlace, Reply, ReplyIdentity
from ollama_router_core.translate.token_counts import TokenCountFormat

__all__ = [
    "Codec",
    "ConversationRoute",
    "EmbeddingRoute",
    "HeaderField",
    "HostTraits",
    "HostedTools",
    "Route",
    "StreamReader",
    "StreamWriter",
]

HeaderField = tuple[bytes, bytes]
"""A header field with its name in lower case."""
HostedTools = Literal["passed_on", "search", "left_out"]
"""Which tools run by the vendor are sent to an Ollama server: all, for Ollama to decide; web search; or none."""


class HostTraits(Struct, frozen=True, kw_only=True):
    """What a host accepts beyond the common part of its dialect.

    Attributes:
        max_tokens_key: the name of the output limit at an OpenAI host. OpenAI itself rejects `max_tokens` for its
            reasoning models; many compatible hosts accept nothing else.
        extensions: whether an OpenAI host accepts `top_k`, `min_p` and `repeat_penalty`, as vLLM and llama.cpp do and
            OpenAI does not.
        responses: whether an OpenAI host has `/v1/responses`; otherwise it is translated to chat completions.
        schemas: whether an Anthropic host enforces the schema in `output_config.format`. Anthropic does; llama.cpp
            ignores it, so requests with a schema are rejected for such a host.
        stream_usage: whether an OpenAI host accepts `stream_options.include_usage`; Mistral's rejects the request.
        default_max_tokens: the output limit in tokens if the client sets none, as Anthropic requires one.
        accepts: what the host accepts in a conversation; None for its dialect's default.
        tools_on: the name of the route for translated requests with tools; empty for the usual one.
        thinking: the request members that set the reasoning effort, if they are not the dialect's; a level without
            members cannot be set.
    """

    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extensions: bool = False
    responses: bool = False
    schemas: bool = True
    stream_usage: bool = True
    default_max_tokens: int = 4096
    accepts: Accepts | None = None
    tools_on: str = ""
    thinking: Mapping[ThinkingLevel, Mapping[str, Any]] = MappingProxyType({})


class StreamReader(Protocol):
    """Parse a host's stream into events; events after `Finished` or `Failed` are ignored."""

    def read(self, payload: bytes) -> list[Event]:
        """Return the events of one line, or of the data of one server-sent event.

        Raises:
            UntranslatableReply: the payload is invalid in the dialect.
        """
        ...

    def end(self) -> list[Event]:
        """Return the `Finished` implied by the end of the stream.

        Raises:
            UpstreamIncomplete: the reply is incomplete.
        """
        ...


class StreamWriter(Protocol):
    """Encode events as a client's stream."""

    def write(self, event: Event) -> bytes:
        """Return the bytes of an event, empty if the dialect sends it later or not at all.

        Raises:
            UntranslatableReply: the dialect cannot express the event.
        """
        ...


class _Route(Struct, frozen=True, kw_only=True):
    """A route: `name` is stable, for logs and settings, `path` is relative to a host's base address."""

    name: str
    family: Family
    path: str

    def __repr__(self) -> str:
        return f"<{self.name}>"


class ConversationRoute(_Route, frozen=True, kw_only=True):
    """A route that continues a conversation.

    Attributes:
        read_request: raises `UntranslatableRequest`.
        write_request: returns the body without the model; raises `UntranslatableRequest`.
        read_reply: raises `UntranslatableReply`.
        write_reply: raises `UntranslatableReply`.
        stream_writer: the last argument is the maximum number of buffered bytes.
        plain_prompt: whether a conversation on this route is one plain-text prompt.
    """

    read_request: Callable[[JsonReader], Conversation]
    write_request: Callable[[Conversation, HostTraits, Dropped], dict[str, Any]]
    read_reply: Callable[[dict[str, Any]], Reply]
    write_reply: Callable[[Reply, ReplyIdentity, ReplyOptions], dict[str, Any]]
    stream_reader: Callable[[], StreamReader]
    stream_writer: Callable[[ReplyIdentity, ReplyOptions, int], StreamWriter]
    plain_prompt: bool = False


class EmbeddingRoute(_Route, frozen=True, kw_only=True):
    """A route that turns texts into vectors. Its functions raise the errors of `ConversationRoute`'s."""

    read_request: Callable[[JsonReader], EmbeddingRequest]
    write_request: Callable[[EmbeddingRequest, Dropped], dict[str, Any]]
    read_reply: Callable[[dict[str, Any]], EmbeddingReply]
    write_reply: Callable[[EmbeddingReply, ReplyIdentity, ReplyOptions], dict[str, Any]]


Route = ConversationRoute | EmbeddingRoute


def _keepalive_comment(_path: str, _identity: ReplyIdentity, place: QueuePlace | None) -> bytes | None:
    return b": keepalive\n\n" if place is None else place.comment


def _openai_entry(model: ExternalModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": model.since_ns // 1_000_000_000, "owned_by": model.host}


class Codec(Struct, frozen=True, kw_only=True):
    """One dialect, with everything that the rest of the router needs to know about it; the defaults are OpenAI's.

    Attributes:
        family: the name of the dialect.
        routes: the routes that can be translated.
        chat: the route for a conversation from another dialect.
        prompt: the route for a plain prompt from another dialect; None for `chat`.
        embeddings: the route for embeddings from another dialect; None without one.
        framing: how its streams are split into payloads.
        token_counts: how to find token counts in a forwarded response.
        accepts: what its hosts accept in a conversation by default.
        hosted_tools: which tools that the vendor would run are sent to an Ollama server.
        domains: domains whose hosts use the dialect unless the settings override it.
        base_path: the prefix of its paths; a host's `path_prefix` replaces it.
        client_base: the suffix of a base URL that its clients expect; they append the rest of the path.
        effort_member: the request member without which Ollama treats thinking as optional, None if thinking is always
            required. Only required thinking rejects a model that cannot think.
        counts_on_request: whether a stream has token counts only if `stream_options` requests them.
        key_field: the header field for a key, with the text before the key.
        request_fields: header fields that a translated request needs.
        serves: whether a host of the dialect has this route, so that requests need no translation.
        write_error: returns the JSON body of an error response; the last argument is the request id.
        write_stream_error: returns the last line or event of a stream that fails after its start.
        model_entry: returns a model's entry in the dialect's model list.
        heartbeat: returns a keepalive for a stream of the route at a path, which clients ignore; None if the route has
            none. While the request waits, it has the place in the queue, in a comment or an additional member.
        answer_locally: returns the response to a request (path, body) for an external model that needs no host; None
            for other requests.
    """

    family: Family
    routes: tuple[Route, ...]
    chat: ConversationRoute
    prompt: ConversationRoute | None = None
    embeddings: EmbeddingRoute | None = None
    framing: Framing = SERVER_SENT_EVENTS
    token_counts: TokenCountFormat
    accepts: Accepts
    hosted_tools: HostedTools
    domains: tuple[str, ...] = ()
    base_path: str = "/v1"
    client_base: str = "/v1"
    effort_member: str | None = None
    counts_on_request: bool = False
    key_field: HeaderField = (b"authorization", b"Bearer ")
    request_fields: tuple[HeaderField, ...] = ()
    serves: Callable[[Endpoint, HostTraits], bool]
    write_error: Callable[[ApiError, str], bytes]
    write_stream_error: Callable[[ApiError, str], bytes]
    model_entry: Callable[[ExternalModel], dict[str, Any]] = _openai_entry
    heartbeat: Callable[[str, ReplyIdentity, QueuePlace | None], bytes | None] = _keepalive_comment
    answer_locally: Callable[[str, Mapping[str, Any], ExternalModel, ReplyIdentity], bytes | None] = lambda *_: None

    def route_for(self, source: Route) -> Route:
        """Return the dialect's route for a client's request on `source`.

        Raises:
            UntranslatableRequest: the dialect has no such route.
        """
        if source.family is self.family:
            return source
        if isinstance(source, ConversationRoute):
            return self.prompt if self.prompt and source.plain_prompt else self.chat
        if self.embeddings is None:
            raise UntranslatableRequest(f"{self.family.value}'s API has no embeddings; choose a model of another host")
        return self.embeddings

    def credential(self, key: bytes) -> HeaderField:
        """Return the header field with a key."""
        name, scheme = self.key_field
        return (name, scheme + key)
