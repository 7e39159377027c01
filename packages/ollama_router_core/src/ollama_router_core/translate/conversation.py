"""A conversation as such, in no dialect: what every request reader makes and every request writer takes.

No `repr` shows what people or models say, so that none of it reaches a log through a traceback.
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
    """Who says a message. A tool's result is a message of its own."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


CacheLife = Literal["", "5m", "1h"]
"""How long a prompt is to be cached up to a part, empty where the client marks nothing."""


class Text(Confidential, frozen=True):
    """Plain text."""

    text: str
    cache: CacheLife = ""


class Image(Confidential, frozen=True):
    """An image in the request itself: its media type (`image/png`, empty if unknown) and its bytes in base64."""

    media_type: str
    data: str
    cache: CacheLife = ""


class ImageUrl(Confidential, frozen=True):
    """An image that the server has to fetch."""

    url: str
    cache: CacheLife = ""


class File(Confidential, frozen=True):
    """A file in the request itself: its media type (`application/pdf`), its bytes in base64, its name if it has one."""

    media_type: str
    data: str
    name: str = ""
    cache: CacheLife = ""


class FileUrl(Confidential, frozen=True):
    """A file that the server has to fetch."""

    url: str
    name: str = ""
    cache: CacheLife = ""


class Thinking(Confidential, frozen=True):
    """What a model thought aloud; `signature` is its host's proof that it did, see `signatures`; empty without one.

    Thoughts that only their host can read have a signature and no text.
    """

    text: str
    signature: str = ""


class ToolCall(Confidential, frozen=True):
    """A call the model wants made; `arguments` is JSON text, empty for none.

    The text may be cut or no JSON at all: that is for who makes the call to find out. `signature` is a proof that some
    hosts want back with the call, see `signatures`.
    """

    id: str
    name: str
    arguments: str
    signature: str = ""


class ToolResult(Confidential, frozen=True):
    """What a call gave; `call_id` names the call."""

    call_id: str
    parts: tuple[Text | Image | ImageUrl | File | FileUrl, ...]
    is_error: bool = False
    cache: CacheLife = ""


Part = Text | Image | ImageUrl | File | FileUrl | Thinking | ToolCall | ToolResult


class Message(Confidential, frozen=True):
    """One turn. A message of the role `tool` holds exactly one `ToolResult`, no other message holds any."""

    role: Role
    parts: tuple[Part, ...]


class Tool(Confidential, frozen=True, kw_only=True):
    """A function the model may call; `parameters` is a JSON schema, `strict` whether it must be kept to."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None
    cache: CacheLife = ""


class ToolChoice(Confidential, frozen=True, kw_only=True):
    """Whether tools may or must be called; `name` goes with the mode `named`."""

    mode: Literal["auto", "none", "required", "named"]
    name: str = ""


class Sampling(Confidential, frozen=True, kw_only=True):
    """How tokens are chosen and when to stop; None means the server's default. `max_tokens` limits the answer."""

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
    """Any JSON object."""


class JsonSchema(Confidential, frozen=True, kw_only=True):
    """JSON of a schema; `name` and `strict` are OpenAI's."""

    schema: Mapping[str, Any]
    name: str = ""
    strict: bool | None = None


ResponseFormat = JsonMode | JsonSchema


class ThinkingLevel(StrEnum):
    """How much a model should think before it answers; `ON` leaves the amount to the server."""

    OFF = "off"
    ON = "on"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    MAX = "max"


class ClientTool(Confidential, frozen=True, kw_only=True):
    """How a client knows a tool that a host knows as a plain function.

    `custom` says that its argument is one free text, `namespace` is the group it belongs to there.
    """

    name: str
    custom: bool = False
    namespace: str = ""


class ReplyOptions(Confidential, frozen=True, kw_only=True):
    """What the client asked of its answer and only its own dialect knows.

    Attributes:
        include_usage: OpenAI: a chunk with the usage at the end of a stream.
        base64_vectors: OpenAI: embeddings as base64.
        echo: OpenAI Responses: values of the request that the answer repeats.
        tools: OpenAI: tools that are no plain functions there, by the names of the functions that stand for them.
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

    `suffix` is the text after the gap of a fill-in-the-middle prompt. `reasoning_summary` asks to be shown what the
    model thinks, where that has to be asked for. `user` and `safety_identifier` name the person, `cache_key` groups
    prompts that begin alike.
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
