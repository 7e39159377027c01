"""Requests usage for a stream on the router's behalf, and removes it from the stream again.

OpenAI's streams report usage only with `stream_options.include_usage`, in an extra chunk before `[DONE]`.
"""

from __future__ import annotations

import itertools
import re
from typing import Any, Final

import msgspec
from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.translate import codec_of
from ollama_router_core.translate.framing import event_data

__all__ = ["UsageChunkFilter", "asking_for_usage"]

_KEY: Final = "stream_options"
_ASKED: Final = b'"stream_options":{"include_usage":true}'
_LONGEST_CHUNK: Final = 16 * 1024
_COUNTS: Final = re.compile(rb'"usage"[ \t]*:[ \t]*\{')
_ZEROS: Final = b',"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'
"""Member that Ollama adds to all other chunks of `/v1/completions`."""
_EVENT_END: Final = re.compile(rb"\r?\n\r?\n")
_ENDS: Final = (b"\n\n", b"\n\r\n")
_LONGEST_END: Final = len(b"\n\r\n")


def asking_for_usage(request: ParsedRequest) -> bytes | None:
    """Return the body with usage requested; None if it already is, or the route has no such option."""
    document = request.document
    if not (request.route.stream and codec_of(request.endpoint.family).counts_on_request) or document is None:
        return None
    options = document.get(_KEY)
    if options is None and document.pieces is not None and _KEY not in document.pieces:
        head, _, tail = request.body.rpartition(b"}")
        return b"%b,%b}%b" % (head, _ASKED, tail)
    if options is None:
        return document.replace({_KEY: '{"include_usage":true}'}).encode()
    if not isinstance(options, dict) or options.get("include_usage") is True:
        return None
    asked = document.part(_KEY).replace({"include_usage": "true"})
    return document.replace({_KEY: asked}).encode()


class _Chunk(Struct):
    choices: Any = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class UsageChunkFilter:
    """Removes usage-only chunks from a stream; all other bytes pass unchanged.

    It also removes the zeros that Ollama adds to chunks of `/v1/completions` when usage is requested.

    Complete events pass immediately; an incomplete event is buffered, up to 16 KiB.
    """

    __slots__ = ("_held", "_passed")

    def __init__(self) -> None:
        self._held = b""
        self._passed: bytes | None = None  # the last bytes of an event too long to buffer

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """Return the bytes for the client; `last` marks the end of the stream."""
        data = self._held + data if self._held else data
        self._held = begun = b""
        if self._passed is not None:
            begun, data = self._rest_of_event(self._passed, data)
        whole, rest = (data, b"") if last else self._whole_events(data)
        if _COUNTS.search(whole) is not None:
            whole = b"".join([event for event in _events(whole) if not _is_counts(event)]).replace(_ZEROS, b"")
        return begun + whole + rest if begun or rest else whole

    def _rest_of_event(self, before: bytes, data: bytes) -> tuple[bytes, bytes]:
        """Split off the rest of the event that passes unbuffered."""
        end = _EVENT_END.search(before + data)
        if end is None:
            self._passed = (before + data)[-_LONGEST_END:]
            return data, b""
        self._passed = None
        split = end.end() - len(before)
        return data[:split], data[split:]

    def _whole_events(self, data: bytes) -> tuple[bytes, bytes]:
        """Split off the complete events, and the part of an incomplete event that cannot be buffered."""
        if not data or data.endswith(b"\n\n"):
            return data, b""
        split = max((data.rfind(end) + len(end) for end in _ENDS if end in data), default=0)
        whole, rest = data[:split], data[split:]
        if len(rest) <= _LONGEST_CHUNK:
            self._held = rest
            return whole, b""
        self._passed = rest[-_LONGEST_END:]
        return whole, rest


def _events(data: bytes) -> list[bytes]:
    """Split events, each with its terminating empty line; the last may lack it."""
    ends = [0, *(end.end() for end in _EVENT_END.finditer(data))]
    events = [data[start:end] for start, end in itertools.pairwise(ends)]
    return [*events, data[ends[-1] :]] if ends[-1] < len(data) else events


def _is_counts(event: bytes) -> bool:
    """Whether an event is the extra chunk: usage without choices."""
    if _COUNTS.search(event) is None:
        return False
    payload = b"\n".join(data for line in event.splitlines() if (data := event_data(line)) is not None)
    try:
        chunk = _decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return chunk.choices == [] and isinstance(chunk.usage, dict) and not chunk.error
