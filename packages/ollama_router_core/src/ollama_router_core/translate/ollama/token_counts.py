"""Token counts and durations in forwarded responses of `/api/chat` and `/api/generate`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Struct

from ollama_router_core.translate.token_counts import (
    MAX_COUNT,
    MAX_DURATION,
    TokenCountFormat,
    Usage,
    count_of,
    duration_of,
    number_patterns,
)

__all__ = ["OLLAMA_TOKEN_COUNTS"]

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)] | None
_Duration = Annotated[int, msgspec.Meta(ge=0, le=MAX_DURATION)] | None


class _End(Struct):
    """The last line of a stream, or a whole response."""

    done: Any = None
    error: Any = None
    prompt_eval_count: _Count = None
    prompt_eval_cached_count: _Count = None
    eval_count: _Count = None
    total_duration: _Duration = None
    load_duration: _Duration = None
    prompt_eval_duration: _Duration = None
    eval_duration: _Duration = None


_LooseEnd = msgspec.defstruct("_LooseEnd", [(name, Any, None) for name in _End.__struct_fields__])
"""The same with values of any type."""
_decode = msgspec.json.Decoder(_End).decode
_decode_leniently = msgspec.json.Decoder(_LooseEnd).decode


def _read(text: bytes) -> Usage:
    try:
        end = _decode(text)
    except msgspec.ValidationError:
        end = _counted(_decode_leniently(text))
    return Usage(
        prompt_tokens=end.prompt_eval_count,
        completion_tokens=end.eval_count,
        cached_tokens=end.prompt_eval_cached_count,
        total_duration=end.total_duration,
        load_duration=end.load_duration,
        prompt_eval_duration=end.prompt_eval_duration,
        eval_duration=end.eval_duration,
        finished=end.done is True,
        failed=bool(end.error),
    )


def _counted(end: Struct) -> _End:
    """Return the line without invalid counts."""
    counts = msgspec.structs.asdict(end)
    for name in counts.keys() - {"done", "error"}:
        counts[name] = duration_of(counts[name]) if name.endswith("duration") else count_of(counts[name])
    return _End(**counts)


def _line(line: bytes) -> bytes:
    return line


OLLAMA_TOKEN_COUNTS = TokenCountFormat(
    words=(b"true", b"eval_", b'load_duration"', b'"error"'),
    marker=re.compile(rb'"(?:done"\s*:\s*true|(?:prompt_)?eval_|load_duration"|error")'),
    numbers=number_patterns(
        {
            "prompt_tokens": "prompt_eval_count",
            "completion_tokens": "eval_count",
            "cached_tokens": "prompt_eval_cached_count",
            "total_duration": "total_duration",
            "load_duration": "load_duration",
            "prompt_eval_duration": "prompt_eval_duration",
            "eval_duration": "eval_duration",
        }
    ),
    pieces=(b'"done":false', b'"done": false'),
    payload=_line,
    read=_read,
    # Only the last member of the whole object can end there.
    token_ends=(b'"done":false}',),
    counts_end=True,
)
