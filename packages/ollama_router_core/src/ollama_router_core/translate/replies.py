"""The dialect-neutral form of a reply: whole, or as the events of a stream.

Writers receive deltas in the order of the reply, tool calls one after the other, each starting with a delta with its
name, and exactly one `Finished` or `Failed` at the end. Readers may interleave the deltas of several calls;
`answer_order` reorders them.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Any

from msgspec import Struct

from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.arguments import are_whole
from ollama_router_core.translate.confidential import Confidential
from ollama_router_core.translate.conversation import Text, Thinking, ToolCall
from ollama_router_core.translate.lenient_json import text_of

__all__ = [
    "Event",
    "Failed",
    "FinishReason",
    "Finished",
    "QueuePlace",
    "Reply",
    "ReplyIdentity",
    "ReplyPart",
    "Started",
    "TextDelta",
    "ThinkingDelta",
    "ThinkingSigned",
    "Timings",
    "ToolCallDelta",
    "Usage",
    "cut_finish",
    "read_finish",
    "whole_finish",
]


class FinishReason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


_REASONS = MappingProxyType(
    {
        "length": FinishReason.LENGTH,
        "max_tokens": FinishReason.LENGTH,
        "model_length": FinishReason.LENGTH,
        "model_context_window_exceeded": FinishReason.LENGTH,
        "tool_calls": FinishReason.TOOL_CALLS,
        "tool_use": FinishReason.TOOL_CALLS,
        "function_call": FinishReason.TOOL_CALLS,
        "content_filter": FinishReason.CONTENT_FILTER,
        "sensitive": FinishReason.CONTENT_FILTER,
        "safety": FinishReason.CONTENT_FILTER,
        "refusal": FinishReason.CONTENT_FILTER,
    }
)
"""Finish reasons of Ollama, OpenAI, Anthropic, xAI, TGI, Mistral, Z.AI and Gemini; any other means `STOP`."""


def read_finish(value: Any, *, called: bool) -> FinishReason:
    """Parse a finish reason; Ollama and some other hosts send `stop` also for tool calls."""
    reason = _REASONS.get(text_of(value), FinishReason.STOP)
    return FinishReason.TOOL_CALLS if called and reason is FinishReason.STOP else reason


class Usage(Confidential, frozen=True, kw_only=True):
    """Token counts.

    `input_tokens` is the whole prompt, `cached_tokens` and `cache_write_tokens` are parts of it; `reasoning_tokens` are
    a part of `output_tokens`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


class Timings(Confidential, frozen=True, kw_only=True):
    """The durations of a reply in nanoseconds; 0 means unknown, as in Ollama's own replies."""

    total_ns: int = 0
    load_ns: int = 0
    prompt_eval_ns: int = 0
    eval_ns: int = 0


ReplyPart = Text | Thinking | ToolCall


class Reply(Confidential, frozen=True, kw_only=True):
    """A whole reply; `usage` and `timings` are None if the server did not report them."""

    parts: tuple[ReplyPart, ...]
    finish: FinishReason
    stop_sequence: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None


def whole_finish(reply: Reply) -> FinishReason:
    """Return the finish reason for a dialect with calls as objects: `LENGTH` if a call is truncated."""
    calls = (part for part in reply.parts if isinstance(part, ToolCall))
    return cut_finish(reply.finish, cut=not all(are_whole(call.arguments) for call in calls))


def cut_finish(finish: FinishReason, *, cut: bool) -> FinishReason:
    """Return the finish reason of a reply; `cut` means that a call is truncated, whatever the host reports."""
    return FinishReason.LENGTH if cut and finish in {FinishReason.STOP, FinishReason.TOOL_CALLS} else finish


class Started(Confidential, frozen=True):
    """The start of a reply; `input_tokens` is 0 if the server does not report them at the start."""

    input_tokens: int = 0


class TextDelta(Confidential, frozen=True):
    """More text, never empty."""

    text: str


class ThinkingDelta(Confidential, frozen=True):
    """More reasoning, never empty."""

    text: str


class ThinkingSigned(Confidential, frozen=True):
    """The proof of the preceding reasoning, see `signatures`; the reasoning itself may be missing."""

    signature: str


class ToolCallDelta(Confidential, frozen=True):
    """More of the call with number `index`: the first delta has `name`; `arguments` join to the JSON text.

    `id` may be empty if the server sends none. No text at all means no arguments. `signature` is that of `ToolCall`, in
    one of the deltas.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    signature: str = ""


class Finished(Confidential, frozen=True):
    """The end of a complete reply."""

    finish: FinishReason
    stop_sequence: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None


class Failed(Confidential, frozen=True):
    """An error of the server within the reply."""

    error: ApiError


Event = TextDelta | ThinkingDelta | ThinkingSigned | ToolCallDelta | Started | Finished | Failed


class QueuePlace(Struct, frozen=True):
    """A request's position in the router's queue, from 1, and its expected wait in seconds."""

    position: int
    expected_wait: float

    @property
    def members(self) -> dict[str, Any]:
        """The values by name, with seconds rounded to a tenth."""
        return {"queue_position": self.position, "expected_wait": round(self.expected_wait, 1)}

    @property
    def comment(self) -> bytes:
        """The values as a comment of server-sent events, which parsers skip."""
        return f": {' '.join(f'{name}={value}' for name, value in self.members.items())}\n\n".encode()


class ReplyIdentity(Confidential, frozen=True, kw_only=True):
    """Facts about a reply that the core, without a clock and random ids, gets from its caller.

    Attributes:
        model: the model's name as the client requested it.
        id: a unique text of letters, digits, `-` and `_`: the router's request id.
        created_ns: when the reply began, in nanoseconds since 1970 (UTC).
    """

    model: str
    id: str
    created_ns: int
