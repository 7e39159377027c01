"""An answer as such, in no dialect: whole, or as the events of a stream.

The contract of a stream as writers get it: deltas in the order of the answer; the calls of tools one after the other,
each begun by a delta with its name; exactly one `Finished` or `Failed` at the end. Readers may give the deltas of
several calls in turns: `answer_order` stands between them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.arguments import are_whole
from ollama_router_core.translate.confidential import Confidential
from ollama_router_core.translate.conversation import Text, Thinking, ToolCall

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
]


class FinishReason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class Usage(Confidential, frozen=True, kw_only=True):
    """Tokens.

    `input_tokens` is the whole prompt, `cached_tokens` and `cache_write_tokens` are parts of it; `reasoning_tokens` are
    a part of `output_tokens`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


class Timings(Confidential, frozen=True, kw_only=True):
    """How long an answer took, in whole nanoseconds; 0 means unknown, as in Ollama's own answers."""

    total_ns: int = 0
    load_ns: int = 0
    prompt_eval_ns: int = 0
    eval_ns: int = 0


ReplyPart = Text | Thinking | ToolCall


class Reply(Confidential, frozen=True, kw_only=True):
    """A whole answer; `usage` and `timings` are None when the server did not report them."""

    parts: tuple[ReplyPart, ...]
    finish: FinishReason
    stop_sequence: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None


def cut_finish(reply: Reply) -> FinishReason:
    """Return why an answer ended, for a dialect whose calls are objects: one with half a call was cut."""
    ends = {FinishReason.STOP, FinishReason.TOOL_CALLS}
    cut = reply.finish in ends and not all(
        are_whole(part.arguments) for part in reply.parts if isinstance(part, ToolCall)
    )
    return FinishReason.LENGTH if cut else reply.finish


class Started(Confidential, frozen=True):
    """The answer begins; `input_tokens` is 0 when the server does not say so at the start."""

    input_tokens: int = 0


class TextDelta(Confidential, frozen=True):
    """More text, never empty."""

    text: str


class ThinkingDelta(Confidential, frozen=True):
    """More of what the model thinks, never empty."""

    text: str


class ThinkingSigned(Confidential, frozen=True):
    """The proof of what the model has just thought, see `signatures`; the thoughts themselves may be missing."""

    signature: str


class ToolCallDelta(Confidential, frozen=True):
    """More of the call with number `index`: its first delta has `name`, all together the JSON text of its arguments.

    `id` may be empty in the first delta when the server gives none. No text at all means no arguments. `signature` is
    that of `ToolCall`, in one of the deltas.
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    signature: str = ""


class Finished(Confidential, frozen=True):
    """The answer is complete."""

    finish: FinishReason
    stop_sequence: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None


class Failed(Confidential, frozen=True):
    """The server gave up inside the answer."""

    error: ApiError


Event = TextDelta | ThinkingDelta | ThinkingSigned | ToolCallDelta | Started | Finished | Failed


class QueuePlace(Struct, frozen=True):
    """Where a request stands in the router's queue: its position from 1, and the seconds until its turn."""

    position: int
    expected_wait: float

    @property
    def members(self) -> dict[str, Any]:
        """The same by name, seconds to a tenth."""
        return {"queue_position": self.position, "expected_wait": round(self.expected_wait, 1)}

    @property
    def comment(self) -> bytes:
        """The same as a comment among server-sent events, which parsers skip."""
        return f": {' '.join(f'{name}={value}' for name, value in self.members.items())}\n\n".encode()


class ReplyIdentity(Confidential, frozen=True, kw_only=True):
    """What an answer says about itself and the core cannot know: it has neither a clock nor random ids.

    Attributes:
        model: the model's name as the client asked for it.
        id: any text of letters, digits, `-` and `_`, unique to this answer: the router's request id.
        created_ns: when the answer began, in nanoseconds since 1970 (UTC).
    """

    model: str
    id: str
    created_ns: int
