"""Token counts in passing answers of chat completions, completions, embeddings and transcriptions."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from ollama_router_core.translate.framing import event_data
from ollama_router_core.translate.token_counts import (
    FINISHED,
    TokenCountFormat,
    Usage,
    count_of,
    number_patterns,
    usage_member,
)

__all__ = ["OPENAI_TOKEN_COUNTS"]


class _End(Struct):
    """A chunk, or a whole answer."""

    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_End).decode


def _read(text: bytes, whole: bool) -> Usage:  # noqa: FBT001 - the shape of `TokenCountFormat.read`
    if text == b"[DONE]":
        return FINISHED
    end = _decode(text)
    source = usage_member(end.usage)
    # Transcriptions have the newer words.
    prompt = count_of(source.get("prompt_tokens", source.get("input_tokens")))
    answer = count_of(source.get("completion_tokens", source.get("output_tokens")))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=answer,
        finished=whole and (prompt is not None or answer is not None),
        failed=bool(end.error),
    )


OPENAI_TOKEN_COUNTS = TokenCountFormat(
    words=(b'"usage"', b'"error"', b"[DONE]"),
    marker=re.compile(rb'["\[](?:usage"\s*:\s*\{|error"|DONE\])'),
    numbers=number_patterns(
        {"prompt_tokens": "(?:prompt|input)_tokens", "completion_tokens": "(?:completion|output)_tokens"}
    ),
    payload=event_data,
    read=_read,
)
