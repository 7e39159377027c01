"""Token counts in forwarded replies of `/v1/responses`: in the last event, which contains the whole response."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from ollama_router_core.translate.framing import event_data
from ollama_router_core.translate.json_text import decode_patiently
from ollama_router_core.translate.openai.token_counts import read_counts
from ollama_router_core.translate.token_counts import TokenCountFormat, Usage, number_patterns

__all__ = ["RESPONSES_TOKEN_COUNTS"]

_ENDS = ("response.completed", "response.incomplete")
_FAILURES = ("error", "response.failed")


class _Response(Struct):
    """The response in the last event; its output is skipped, not decoded."""

    usage: Any = None


class _End(Struct):
    """An event, or a whole response."""

    usage: Any = None
    error: Any = None
    type: Any = None
    response: _Response | None = None


_decode = msgspec.json.Decoder(_End).decode


def _parsed(text: bytes) -> _End:
    """Parse an event. The last one repeats the response, which may contain lone surrogates that msgspec rejects."""
    try:
        return _decode(text)
    except msgspec.DecodeError:
        return msgspec.convert(decode_patiently(text), _End)


def _read(text: bytes) -> Usage:
    end = _parsed(text)
    usage = end.usage or (end.response.usage if end.response else None)
    return read_counts(usage, finished=end.type in _ENDS, failed=bool(end.error) or end.type in _FAILURES)


RESPONSES_TOKEN_COUNTS = TokenCountFormat(
    words=(b'"usage"', b"response.completed", b"response.incomplete", b"response.failed", b'"error"'),
    marker=re.compile(rb'"usage"\s*:\s*\{'),
    numbers=number_patterns(
        {
            "prompt_tokens": "input_tokens",
            "completion_tokens": "output_tokens",
            "cached_tokens": "cached_tokens",
            "reasoning_tokens": "reasoning_tokens",
        }
    ),
    pieces=(b'.delta"',),
    payload=event_data,
    read=_read,
    ends=(b"event: response.completed", b"event: response.incomplete"),
    counts_end=True,
)
