"""The dialect-neutral form of a conversation, produced by request readers and consumed by request writers.

`repr` shows no content, so that no prompt or response reaches a log through a traceback.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

from ollama_router_core.translate.confidential import Confidential

__all__ = [
    "NO_REPLY_OPTIONS",
    "CacheLife",
    "ClientTool",
    "Conversation",
    "File",
    "FileUrl",
    "Image",
    "ImageUrl",
    "JsonMode",
    "JsonSchema",
    "Message",
    "Part",
    "ReasoningSummary",
    "ReplyOptions",
    "ResponseFormat",
    "Role",
    "Sampling",
    "Text",
    "Thinking",
    "ThinkingLevel",
    "Tool",
    "ToolCall",
    "ToolChoice",
    "ToolResult",
    "Verbosity",
]


class Role(StrEnum):
    """The author of a message. A tool result is a separate message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


CacheLife = Literal["", "5m", "1h"]
"""How long to cache the prompt up to a part; empty without a mark."""


class Text(Confidential, frozen=True):
    """Plain text."""

    text: str
    cache: CacheLife = ""


class Image(Confidential, frozen=True):
    """An inline image: its media type (`image/png`, empty if unknown) and its bytes in base64."""

    media_type: str
    data: str
    cache: CacheLife = ""


class ImageUrl(Confidential, frozen=True):
    """An image for the server to fetch."""

    url: str
    cache: CacheLife = ""


class File(Confidential, frozen=True):
    """An inline file: its media type (`application/pdf`), its bytes in base64, its name, if any."""

    media_type: str
    data: str
    name: str = ""
    cache: CacheLife = ""


class FileUrl(Confidential, frozen=True):
    """A file for the server to fetch."""

    url: str
    name: str = ""
    cache: CacheLife = ""


class Thinking(Confidential, frozen=True):
    """A model's reasoning; `signature` is its host's proof of it, see `signatures`; empty without one.

    Reasoning that only its host can read has a signature and no text.
    """

    text: str
    signature: str = ""


class ToolCall(Confidential, frozen=True):
    """A tool call by the model; `arguments` is JSON text, empty for none.

    The text may be truncated or invalid JSON; it is not checked. `signature` is a proof that some hosts require back
    with the call, see `signatures`.
    """

    id: str
    name: str
    arguments: str
    signature: str = ""


class ToolResult(Confidential, frozen=True):
    """The result of a tool call; `call_id` is the call's id."""

    call_id: str
    parts: tuple[Text | Image | ImageUrl | File | FileUrl, ...]
    is_error: bool = False
    cache: CacheLife = ""


Part = Text | Image | ImageUrl | File | FileUrl | Thinking | ToolCall | ToolResult


class Message(Confidential, frozen=True):
    """One turn. A message of the role `tool` has exactly one `ToolResult`; other messages have none."""

    role: Role
    parts: tuple[Part, ...]


class Tool(Confidential, frozen=True, kw_only=True):
    """A function that the model may call; `parameters` is an object's JSON schema, `strict` whether to enforce it."""

    name: str
    description: str = ""
    parameters: dict[str, Any]
    strict: bool | None = None
    cache: CacheLife = ""


class ToolChoice(Confidential, frozen=True, kw_only=True):
    """Whether tools may or must be called; `name` is for the mode `named`."""

    mode: Literal["auto", "none", "required", "named"]
    name: str = ""


class Sampling(Confidential, frozen=True, kw_only=True):
    """Sampling parameters and stop conditions; None is the server's default. `max_tokens` limits the response."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()


class JsonMode(Confidential, frozen=True):
    """A response format of any JSON object."""


class JsonSchema(Confidential, frozen=True, kw_only=True):
    """A response format of JSON that follows a schema; `name` and `strict` are OpenAI's."""

    schema: Mapping[str, Any]
    name: str = ""
    strict: bool | None = None


ResponseFormat = JsonMode | JsonSchema


class ThinkingLevel(StrEnum):
    """The reasoning effort; `ON` leaves it to the server."""

    OFF = "off"
    ON = "on"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    MAX = "max"


class ClientTool(Confidential, frozen=True, kw_only=True):
    """The client's form of a tool that is a plain function for the host.

    `custom` tools have one free-text argument; `namespace` is the tool's group at the client.
    """

    name: str
    custom: bool = False
    namespace: str = ""


class ReplyOptions(Confidential, frozen=True, kw_only=True):
    """Dialect-specific options of a client's reply.

    Attributes:
        include_usage: OpenAI: a chunk with the usage at the end of a stream.
        base64_vectors: OpenAI: embeddings as base64.
        echo: OpenAI Responses: values of the request that the response repeats.
        tools: OpenAI: tools that are not plain functions, by the names of their substitute functions.
    """

    include_usage: bool = False
    base64_vectors: bool = False
    echo: Mapping[str, Any] = MappingProxyType({})
    tools: Mapping[str, ClientTool] = MappingProxyType({})


NO_REPLY_OPTIONS = ReplyOptions()

Verbosity = Literal["low", "medium", "high"]
ReasoningSummary = Literal["auto", "concise", "detailed"]


class Conversation(Confidential, frozen=True, kw_only=True):
    """A request for the next message.

    `suffix` is the text after the gap of a fill-in-the-middle prompt. `reasoning_summary` requests the model's
    reasoning from hosts that do not send it otherwise. `user` and `safety_identifier` name the person, `cache_key`
    groups prompts with a common prefix.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    sampling: Sampling = Sampling()
    format: ResponseFormat | None = None
    thinking: ThinkingLevel | None = None
    reasoning_summary: ReasoningSummary | None = None
    verbosity: Verbosity | None = None
    stream: bool = False
    suffix: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    cache_key: str | None = None
    service_tier: str | None = None
    reply_options: ReplyOptions = NO_REPLY_OPTIONS
