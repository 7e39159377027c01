"""Token counts in forwarded responses of `/v1/messages`."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from ollama_router_core.translate.framing import event_data
from ollama_router_core.translate.lenient_json import object_of
from ollama_router_core.translate.token_counts import TokenCountFormat, Usage, count_of, number_patterns

__all__ = ["ANTHROPIC_TOKEN_COUNTS"]


class _End(Struct):
    """An event, or a whole response."""

    usage: Any = None
    type: Any = None
    message: Any = None


_decode = msgspec.json.Decoder(_End).decode


def _read(text: bytes) -> Usage:
    end = _decode(text)
    # The first event has the prompt's tokens in its message.
    source = object_of(end.usage or object_of(end.message).get("usage"))
    return Usage(
        prompt_tokens=count_of(source.get("input_tokens")),
        completion_tokens=count_of(source.get("output_tokens")),
        cached_tokens=count_of(source.get("cache_read_input_tokens")),
        cache_write_tokens=count_of(source.get("cache_creation_input_tokens")),
        finished=end.type == "message_stop",
        failed=end.type == "error",
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
