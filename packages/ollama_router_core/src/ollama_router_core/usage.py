"""Read tokens and timings out of an answer while its bytes pass, without changing or holding them.

Belongs here: finding usage in NDJSON lines, server-sent events and single JSON bodies.
Does not belong here: relaying, pricing, quotas.

Most pieces are tokens passing by: one search tells that they hold nothing, and they are let go. Lines
that may hold something are parsed, so an answer that talks about `"eval_count"` is not taken for one that has it. At
most 16 KiB of a line are held; of a longer one (Ollama's `context` list) the end, where every dialect puts its usage.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


@dataclass(slots=True)
class _Seen:
    """What some part of an answer told."""

    counts: dict[str, int]
    finished: bool = False
    failed: bool = False

    def add(self, other: _Seen) -> None:
        self.counts |= other.counts
        self.finished = self.finished or other.finished
        self.failed = self.failed or other.failed


_FIELDS: Mapping[Family, Mapping[str, str]] = {
    Family.OLLAMA: {
        "prompt_tokens": "prompt_eval_count",
        "completion_tokens": "eval_count",
        "load_duration": "load_duration",
        "prompt_eval_duration": "prompt_eval_duration",
        "eval_duration": "eval_duration",
    },
    Family.OPENAI: {"prompt_tokens": "prompt_tokens", "completion_tokens": "completion_tokens"},
    Family.ANTHROPIC: {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"},
}
# One search a piece; each pattern begins with a fixed character, which the regex engine skips to.
_MARKERS: Mapping[Family, re.Pattern[bytes]] = {
    Family.OLLAMA: re.compile(rb'"(?:done"\s*:\s*true|(?:prompt_)?eval_|load_duration"|error")'),
    Family.OPENAI: re.compile(rb'["\[](?:usage"\s*:\s*\{|error"|DONE\])'),
    Family.ANTHROPIC: re.compile(rb'"(?:usage"\s*:\s*\{|message_stop"|error")'),
}
_NUMBERS = {
    family: {name: re.compile(rb'"%s"\s*:\s*(\d{1,18})(?=\s*[,}])' % key.encode()) for name, key in fields.items()}
    for family, fields in _FIELDS.items()
}


class UsageReader:
    """Watches one answer. Feed it every piece, then ask for `usage`; how the bytes are cut makes no difference."""

    __slots__ = ("_cut", "_family", "_held", "_lines", "_seen", "_tells")

    def __init__(self, family: Family, *, streamed: bool) -> None:
        self._family = family
        self._tells = _MARKERS[family].search
        self._lines = streamed
        self._held = b""
        self._cut = False
        self._seen = _Seen({})

    def feed(self, piece: bytes) -> None:
        """Look at the next piece of the body."""
        data = self._held + piece if self._held else piece
        if not self._lines:
            self._hold(data)
            return
        if data.endswith(b"\n") and not self._tells(data):  # the common case: a token passes by
            self._held, self._cut = b"", False
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._seen.add(self._line(line, cut=self._cut))
            self._cut = False
        self._hold(rest)

    @property
    def usage(self) -> Usage:
        """What has been found so far; call it after the last piece."""
        seen = _Seen(dict(self._seen.counts), self._seen.finished, self._seen.failed)
        if self._lines:
            seen.add(self._line(self._held, cut=self._cut))
        else:
            seen.add(_read(self._family, self._held, cut=self._cut))
            seen.finished = seen.finished or bool(seen.counts)
        return Usage(**seen.counts, finished=seen.finished, failed=seen.failed)

    def _hold(self, data: bytes) -> None:
        self._cut = self._cut or len(data) > _HELD
        self._held = data[-_HELD:]

    def _line(self, line: bytes, *, cut: bool) -> _Seen:
        cut = cut or len(line) > _HELD
        line = line[-_HELD:].strip()
        if not self._tells(line):
            return _Seen({})
        if self._family is Family.OLLAMA or cut:
            return _read(self._family, line, cut=cut)
        if not line.startswith(b"data:"):
            return _Seen({})
        payload = line[5:].strip()
        if payload == b"[DONE]":
            return _Seen({}, finished=self._family is Family.OPENAI)
        return _read(self._family, payload, cut=False)


def _read(family: Family, text: bytes, *, cut: bool) -> _Seen:
    """One JSON text; of a cut one, only the end is left. What is not JSON tells nothing."""
    if cut:
        return _read_end(family, text)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return _Seen({})
    if not isinstance(document, dict):
        return _Seen({})
    return _Seen(_counts(family, document), _finishes(family, document), _fails(family, document))


def _read_end(family: Family, text: bytes) -> _Seen:
    counts = {}
    for name, pattern in _NUMBERS[family].items():
        values = pattern.findall(text)
        if values:
            counts[name] = int(values[-1])
    # Ollama writes its numbers in the last line of an answer only.
    return _Seen(counts, finished=family is Family.OLLAMA and bool(counts))


def _counts(family: Family, document: Mapping[str, Any]) -> dict[str, int]:
    source: Any = document
    if family is not Family.OLLAMA:
        message = document.get("message")  # Anthropic's first event carries the prompt's tokens inside its message
        source = document.get("usage") or (message.get("usage") if isinstance(message, dict) else None)
    if not isinstance(source, dict):
        return {}
    found = {name: source.get(key) for name, key in _FIELDS[family].items()}
    return {name: value for name, value in found.items() if type(value) is int and 0 <= value < 1 << 63}


def _finishes(family: Family, document: Mapping[str, Any]) -> bool:
    if family is Family.ANTHROPIC:
        return document.get("type") == "message_stop"
    return family is Family.OLLAMA and document.get("done") is True


def _fails(family: Family, document: Mapping[str, Any]) -> bool:
    if family is Family.ANTHROPIC:
        return document.get("type") == "error"
    return bool(document.get("error"))
