"""The members of an answer, or of a line of one, that say what it cost, in each dialect."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Struct

__all__ = [
    "AnthropicEnd",
    "AnyOllamaEnd",
    "OllamaEnd",
    "OpenAIEnd",
    "read_anthropic",
    "read_any_ollama",
    "read_ollama",
    "read_openai",
]

_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None


class OllamaEnd(Struct):
    """The last line of a stream, or a whole answer."""

    done: Any = None
    error: Any = None
    prompt_eval_count: _Count = None
    eval_count: _Count = None
    load_duration: _Count = None
    prompt_eval_duration: _Count = None
    eval_duration: _Count = None


class AnyOllamaEnd(Struct):
    """The same where one of them is no count."""

    done: Any = None
    error: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    load_duration: Any = None
    prompt_eval_duration: Any = None
    eval_duration: Any = None


class OpenAIEnd(Struct):
    """An event, or a whole answer."""

    usage: Any = None
    error: Any = None
    type: Any = None
    response: Any = None  # the last event of `/v1/responses` carries the whole answer inside it


class AnthropicEnd(Struct):
    """An event, or a whole answer."""

    usage: Any = None
    type: Any = None
    message: Any = None  # the first event carries the prompt's tokens inside it


read_ollama = msgspec.json.Decoder(OllamaEnd).decode
read_any_ollama = msgspec.json.Decoder(AnyOllamaEnd).decode
read_openai = msgspec.json.Decoder(OpenAIEnd).decode
read_anthropic = msgspec.json.Decoder(AnthropicEnd).decode
