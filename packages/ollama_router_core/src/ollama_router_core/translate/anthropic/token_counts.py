"""Token counts in forwarded responses of `/v1/messages`."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from ollama_router_core.translate.framing import event_data
from ollama_router_core.translate.token_counts import TokenCountFormat, Usage, count_of, number_patterns, usage_member

__all__ = ["ANTHROPIC_TOKEN_COUNTS"]


class _End(Struct):
    """An event, or a whole response."""

    usage: Any = None
    type: Any = None
    message: Any = None


_decode = msgspec.json.Decoder(_End).decode


def _read(text: bytes, whole: bool) -> Usage:  # noqa: FBT001 - the shape of `TokenCountFormat.read`
    end = _decode(text)
    # The first event has the prompt's tokens in its message.
    inner = end.message.get("usage") if isinstance(end.message, dict) else None
    source, kind = usage_member(end.usage or inner), end.type
    prompt, answer = count_of(source.get("input_tokens")), count_of(source.get("output_tokens"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=answer,
        cached_tokens=count_of(source.get("cache_read_input_tokens")),
        cache_write_tokens=count_of(source.get("cache_creation_input_tokens")),
        finished=kind == "message_stop" or (whole and (prompt is not None or answer is not None)),
        failed=kind == "error",
    )


ANTHROPIC_TOKEN_COUNTS = TokenCountFormat(
    words=(b'"usage"', b'message_stop"', b'"error"'),
    marker=re.compile(rb'"(?:usage"\s*:\s*\{|message_stop"|error")'),
    numbers=number_patterns(
        {
            "prompt_tokens": "input_tokens",
            "completion_tokens": "output_tokens",
            "cached_tokens": "cache_read_input_tokens",
            "cache_write_tokens": "cache_creation_input_tokens",
        }
    ),
    pieces=(b'"content_block_delta"',),
    payload=event_data,
    read=_read,
    cached_apart=True,
)
