"""What a dialect has to provide: one `Codec` object per package, and the routes it speaks.

A route is a table of plain functions; a function that is missing, or of another shape, fails type checking where the
route is made. `registry` is the only module that knows every codec.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol

from msgspec import Struct

from ollama_router_core.api.endpoints import Endpoint, Family
from ollama_router_core.translate.accepts import Accepts
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.conversation import Conversation, ReplyOptions, ThinkingLevel
from ollama_router_core.translate.embeddings import EmbeddingReply, EmbeddingRequest
from ollama_router_core.translate.external_models import ExternalModel
from ollama_router_core.translate.framing import Framing
from ollama_router_core.translate.host_errors import read_host_error
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
"""A header field, its name in lower case."""
HostedTools = Literal["passed_on", "search", "left_out"]
"""What an Ollama server gets of tools that the vendor runs: all, as Ollama decides; a search of the web; or none."""


class HostTraits(Struct, frozen=True, kw_only=True):
    """What a host takes beyond the common ground of its dialect.

    Attributes:
        max_tokens_key: how an OpenAI host wants the limit of the answer. OpenAI itself refuses `max_tokens` for its
            reasoning models; many look-alikes know nothing else.
        extensions: whether an OpenAI host takes `top_k`, `min_p` and `repeat_penalty`, as vLLM and llama.cpp do and
            OpenAI does not.
        responses: whether an OpenAI host has `/v1/responses` itself. If not, chat completions answer for it.
        schemas: whether an Anthropic host keeps to the schema in `output_config.format`. Anthropic does; llama.cpp
            takes it and ignores it, so a schema for such a host is refused instead.
        stream_usage: whether an OpenAI host takes `stream_options.include_usage`; Mistral's refuses the whole request.
        default_max_tokens: tokens; Anthropic demands a limit, this one is sent when the client gave none.
        accepts: what it takes of a conversation; None for what its dialect's hosts have in common.
        tools_on: the name of the route on which translated requests with tools are asked, empty for the usual one.
        thinking: the members of a request that say how much to think, where they are not the dialect's own; none: it
            cannot be said.
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
    """Turns a host's stream into events; events after `Finished` or `Failed` are ignored."""

    def read(self, payload: bytes) -> list[Event]:
        """Return the events of one line, or of the data of one server-sent event.

        Raises:
            UntranslatableReply: the payload is not of the dialect.
        """
        ...

    def end(self) -> list[Event]:
        """Return the `Finished` that the end of the bytes implies.

        Raises:
            UpstreamIncomplete: the answer was not complete.
        """
        ...


class StreamWriter(Protocol):
    """Writes events as a client's stream."""

    def write(self, event: Event) -> bytes:
        """Return the bytes of an event, empty when the dialect says it later or not at all.

        Raises:
            UntranslatableReply: the dialect cannot say it.
        """
        ...


class _Route(Struct, frozen=True, kw_only=True):
    """Any route: `name` is stable and may stand in logs and settings, `path` is that below a host's base address."""

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
        stream_writer: its last argument is the most bytes that may be held back.
        plain_prompt: whether a conversation here is one prompt of plain text.
    """

    read_request: Callable[[JsonReader], Conversation]
    write_request: Callable[[Conversation, HostTraits, Dropped], dict[str, Any]]
    read_reply: Callable[[dict[str, Any]], Reply]
    write_reply: Callable[[Reply, ReplyIdentity, ReplyOptions], dict[str, Any]]
    stream_reader: Callable[[], StreamReader]
    stream_writer: Callable[[ReplyIdentity, ReplyOptions, int], StreamWriter]
    plain_prompt: bool = False


class EmbeddingRoute(_Route, frozen=True, kw_only=True):
    """A route that turns texts into vectors. Its functions raise as those of `ConversationRoute` do."""

    read_request: Callable[[JsonReader], EmbeddingRequest]
    write_request: Callable[[EmbeddingRequest, Dropped], dict[str, Any]]
    read_reply: Callable[[dict[str, Any]], EmbeddingReply]
    write_reply: Callable[[EmbeddingReply, ReplyIdentity, ReplyOptions], dict[str, Any]]


Route = ConversationRoute | EmbeddingRoute


class Codec(Protocol):
    """One dialect: everything that the rest of the router has to know about it.

    Attributes:
        family: the name of the dialect.
        routes: those that can be translated.
        framing: how its streams are cut into payloads.
        token_counts: where an answer that passes by says what it cost.
        accepts: what its hosts take of a conversation unless more is known of one.
        hosted_tools: what an Ollama server gets of the tools in a request that the vendor would run itself.
        domains: domains whose hosts speak it unless the settings say otherwise.
        base_path: what its paths begin with; a host's `path_prefix` replaces it.
        client_base: what its clients expect at the end of a base URL; they add the rest of the path.
        effort_member: the member of a request without which Ollama takes thinking for a wish, None if it is always a
            demand. A model that cannot think is refused only where thinking is demanded.
        counts_on_request: whether a stream tells its token counts only if `stream_options` asks for them.
        request_fields: header fields that a translated request needs.
    """

    family: Family
    routes: tuple[Route, ...]
    framing: Framing
    token_counts: TokenCountFormat
    accepts: Accepts
    hosted_tools: HostedTools
    domains: tuple[str, ...] = ()
    base_path: str = "/v1"
    client_base: str = "/v1"
    effort_member: str | None = None
    counts_on_request: bool = False
    request_fields: tuple[HeaderField, ...] = ()

    @abstractmethod
    def route_for(self, source: Route) -> Route:
        """Return the route on which a host of the dialect is asked what a client asked on `source`.

        Raises:
            UntranslatableRequest: the dialect has no such route.
        """

    @abstractmethod
    def write_error(self, error: ApiError, request_id: str) -> bytes:
        """Return the JSON body of an error answer."""

    @abstractmethod
    def write_stream_error(self, error: ApiError, request_id: str) -> bytes:
        """Return the last line or event of a stream that has begun and cannot go on."""

    @abstractmethod
    def model_entry(self, model: ExternalModel) -> dict[str, Any]:
        """Return the entry of a model in the dialect's list of models."""

    def serves(self, endpoint: Endpoint, _traits: HostTraits) -> bool:
        """Whether a host of the dialect has this route itself, so that requests pass untranslated."""
        return endpoint.family is self.family

    def credential(self, key: bytes) -> HeaderField:
        """Return the field that carries a key."""
        return (b"authorization", b"Bearer " + key)

    def read_error(self, status: int, body: bytes) -> ApiError:
        """Read an error answer of a host. Never raises, whatever the body is."""
        return read_host_error(status, body)

    def heartbeat(self, _path: str, _identity: ReplyIdentity, place: QueuePlace | None = None) -> bytes | None:
        """Return what keeps a stream of this route alive and clients skip, None if there is no such thing.

        While the request waits it says where: in a comment, or in a member that Ollama does not have.
        """
        return b": keepalive\n\n" if place is None else place.comment

    def answer_locally(
        self, _path: str, _body: Mapping[str, Any], _model: ExternalModel, _identity: ReplyIdentity
    ) -> bytes | None:
        """Answer a request for a model elsewhere that no host needs to see, None for any other request."""
        return None
