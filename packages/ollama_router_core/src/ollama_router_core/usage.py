r"""Read tokens and timings out of an answer while its bytes pass, without changing or holding them.

Belongs here: finding usage in NDJSON lines, server-sent events and single JSON bodies.
Does not belong here: relaying, pricing, quotas.

Only the end of the current line is held (at most 16 KiB): usage stands at the end of a final chunk in every dialect.
A quote inside a JSON text is escaped, so a key in an answer's prose (`\"eval_count\":`) is never taken for one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ollama_router_core.endpoints import Family

__all__ = ["Usage", "UsageReader"]

_HELD = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a server said about one answer; None where it said nothing. Durations are nanoseconds.

    `finished` is True once the dialect's own end of an answer has passed, `failed` once an error line has.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    load_duration: int | None = None
    prompt_eval_duration: int | None = None
    eval_duration: int | None = None
    finished: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class _Dialect:
    markers: tuple[bytes, ...]
    end: bytes
    failure: bytes
    fields: tuple[tuple[str, re.Pattern[bytes]], ...]


def _number(*keys: str) -> re.Pattern[bytes]:
    return re.compile(rb'"(?:' + "|".join(keys).encode() + rb')"\s*:\s*(\d{1,18})(?![\d.eE])')


_DIALECTS = {
    Family.OLLAMA: _Dialect(
        markers=(b'_count"', b'_duration"', b'"done":true', b'{"error"'),
        end=b'"done":true',
        failure=b'{"error"',
        fields=(
            ("prompt_tokens", _number("prompt_eval_count")),
            ("completion_tokens", _number("eval_count")),
            ("load_duration", _number("load_duration")),
            ("prompt_eval_duration", _number("prompt_eval_duration")),
            ("eval_duration", _number("eval_duration")),
        ),
    ),
    Family.OPENAI: _Dialect(
        markers=(b'"usage"', b"data: [DONE]", b'data: {"error"'),
        end=b"data: [DONE]",
        failure=b'data: {"error"',
        fields=(
            ("prompt_tokens", _number("prompt_tokens")),
            ("completion_tokens", _number("completion_tokens")),
        ),
    ),
    Family.ANTHROPIC: _Dialect(
        markers=(b'"usage"', b"event: message_stop", b"event: error"),
        end=b"event: message_stop",
        failure=b"event: error",
        fields=(
            ("prompt_tokens", _number("input_tokens")),
            ("completion_tokens", _number("output_tokens")),
        ),
    ),
}


class UsageReader:
    """Watches one answer. Feed it every piece, then ask for `usage`; how the bytes are cut makes no difference."""

    __slots__ = ("_dialect", "_failed", "_finished", "_found", "_held", "_lines")

    def __init__(self, family: Family, *, streamed: bool) -> None:
        self._dialect = _DIALECTS[family]
        self._lines = streamed
        self._held = b""
        self._found: dict[str, int] = {}
        self._finished = False
        self._failed = False

    def feed(self, piece: bytes) -> None:
        """Look at the next piece of the body."""
        if not self._lines:
            self._held = (self._held + piece)[-_HELD:]
            return
        data = self._held + piece if self._held else piece
        if data.endswith(b"\n") and self._is_plain(data):
            self._held = b""
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._line(line)
        self._held = rest[-_HELD:]

    @property
    def usage(self) -> Usage:
        """What has been found so far; call it after the last piece."""
        found = dict(self._found)
        if self._held:
            found |= self._numbers(self._held)
        return Usage(
            **{name: found.get(name) for name, _ in self._dialect.fields},
            finished=self._finished or (not self._lines and bool(found)),
            failed=self._failed,
        )

    def _is_plain(self, data: bytes) -> bool:
        """Nothing here can be usage, an end or a failure: the common case of a token passing by."""
        return not any(marker in data for marker in self._dialect.markers)

    def _line(self, line: bytes) -> None:
        line = line[-_HELD:].strip()
        if self._is_plain(line):
            return
        self._failed = self._failed or line.startswith(self._dialect.failure)
        self._finished = self._finished or self._dialect.end in line
        self._found |= self._numbers(line)

    def _numbers(self, text: bytes) -> dict[str, int]:
        found = {}
        for name, pattern in self._dialect.fields:
            values = pattern.findall(text)
            if values:
                found[name] = int(values[-1])
        return found
