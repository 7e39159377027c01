"""Token counts in forwarded responses of chat completions, completions, embeddings and transcriptions."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from ollama_router_core.translate.framing import event_data
from ollama_router_core.translate.lenient_json import object_of
from ollama_router_core.translate.token_counts import FINISHED, TokenCountFormat, Usage, count_of, number_patterns

__all__ = ["OPENAI_TOKEN_COUNTS", "read_counts"]


class _End(Struct):
    """A chunk, or a whole response."""

    usage: Any = None
    error: Any = None
    choices: Any = None


_decode = msgspec.json.Decoder(_End).decode


def _read(text: bytes) -> Usage:
    if text == b"[DONE]":
        return FINISHED
    end = _decode(text)
    finished = _has_finished(end.choices)
    return read_counts(end.usage, finished=finished, failed=bool(end.error))


def read_counts(usage: Any, *, finished: bool, failed: bool) -> Usage:
    """Parse a `usage` object with the names of either API of OpenAI; transcriptions have those of Responses."""
    if not isinstance(usage, dict):
        return Usage(finished=finished, failed=failed)
    read = object_of(usage.get("prompt_tokens_details", usage.get("input_tokens_details")))
    written = object_of(usage.get("completion_tokens_details", usage.get("output_tokens_details")))
    return Usage(
        prompt_tokens=count_of(usage.get("prompt_tokens", usage.get("input_tokens"))),
        completion_tokens=count_of(usage.get("completion_tokens", usage.get("output_tokens"))),
        # DeepSeek has its own key.
        cached_tokens=count_of(read.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))),
        reasoning_tokens=count_of(written.get("reasoning_tokens")),
        finished=finished,
        failed=failed,
    )


def _has_finished(choices: Any) -> bool:
    """Return whether a chunk ends its choice; some compatible hosts end a stream with it, without `[DONE]`."""
    first = choices[0] if isinstance(choices, list) and choices else None
    return isinstance(first, dict) and isinstance(first.get("finish_reason"), str)


OPENAI_TOKEN_COUNTS = TokenCountFormat(
    words=(b'"usage"', b'"error"', b"[DONE]", b'"finish_reason":"', b'"finish_reason": "'),
    marker=re.compile(rb'["\[](?:usage"\s*:\s*\{|error"|DONE\])'),
    numbers=number_patterns(
        {
            "prompt_tokens": "(?:prompt|input)_tokens",
            "completion_tokens": "(?:completion|output)_tokens",
            "cached_tokens": "(?:cached_tokens|prompt_cache_hit_tokens)",
            "reasoning_tokens": "reasoning_tokens",
        }
    ),
    pieces=(b'"delta":', b'"text":'),
    payload=event_data,
    read=_read,
)
