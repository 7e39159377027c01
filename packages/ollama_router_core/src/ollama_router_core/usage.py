"""Read tokens and timings out of an answer while its bytes pass, without changing or holding them.

Belongs here: finding usage in NDJSON lines, server-sent events and single JSON bodies.
Does not belong here: relaying, pricing, quotas.

Most pieces are tokens passing by: a search for a few words tells that they hold nothing, and they are let go. Lines
that may hold something are parsed, so an answer that talks about `"eval_count"` is not taken for one that has it. At
most 16 KiB of a line are held; of a longer one (Ollama's `context` list) the end, where every dialect puts its usage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from ollama_router_core.endpoints import Family
from ollama_router_core.usage_members import read_anthropic, read_ollama, read_openai
from ollama_router_core.values import Frozen

__all__ = ["Usage", "UsageReader"]

_HELD = 16 * 1024


class Usage(Frozen, frozen=True, kw_only=True):
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

    @property
    def counts(self) -> bool:
        """Whether any number was found."""
        return self.prompt_tokens is not None or self.completion_tokens is not None or self._times

    @property
    def _times(self) -> bool:
        return self.load_duration is not None or self.prompt_eval_duration is not None or self.eval_duration is not None


_NOTHING = Usage()

_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

# Names of the numbers, as regular expressions.
_FIELDS: Mapping[Family, Mapping[str, str]] = {
    Family.OLLAMA: {
        "prompt_tokens": "prompt_eval_count",
        "completion_tokens": "eval_count",
        "load_duration": "load_duration",
        "prompt_eval_duration": "prompt_eval_duration",
        "eval_duration": "eval_duration",
    },
    Family.OPENAI: {"prompt_tokens": "(?:prompt|input)_tokens", "completion_tokens": "(?:completion|output)_tokens"},
    Family.ANTHROPIC: {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"},
}
# Without one of these words no marker matches. Looking for words costs a tenth of looking for patterns.
_WORDS: Mapping[Family, tuple[bytes, ...]] = {
    Family.OLLAMA: (b"true", b"eval_", b'load_duration"', b'"error"'),
    Family.OPENAI: (b'"usage"', b'"error"', b"response.", b"[DONE]"),
    Family.ANTHROPIC: (b'"usage"', b'message_stop"', b'"error"'),
}
_MARKERS: Mapping[Family, re.Pattern[bytes]] = {
    Family.OLLAMA: re.compile(rb'"(?:done"\s*:\s*true|(?:prompt_)?eval_|load_duration"|error")'),
    Family.OPENAI: re.compile(rb'["\[](?:usage"\s*:\s*\{|error"|response\.(?:completed|failed)"|DONE\])'),
    Family.ANTHROPIC: re.compile(rb'"(?:usage"\s*:\s*\{|message_stop"|error")'),
}
_NUMBERS = {
    family: {name: re.compile(rb'"%s"\s*:\s*(\d{1,18})(?=\s*[,}])' % key.encode()) for name, key in fields.items()}
    for family, fields in _FIELDS.items()
}
_TOKEN = b'"done":false}'
"""How Ollama ends a line that is a token. Only the last member of the whole object can stand there."""


class UsageReader:
    """Watches one answer. Feed it every piece, then ask for `usage`; how the bytes are cut makes no difference."""

    __slots__ = ("_cut", "_family", "_found", "_held", "_lines", "_seen", "_tells", "_words")

    def __init__(self, family: Family, *, streamed: bool) -> None:
        self._family = family
        self._words = _WORDS[family]
        self._tells = _MARKERS[family].search
        self._lines = streamed
        self._held = b""
        self._cut = False
        self._seen = _NOTHING
        self._found: Usage | None = None

    def feed(self, piece: bytes) -> None:
        """Look at the next piece of the body."""
        self._found = None
        data = self._held + piece if self._held else piece
        if not self._lines:
            self._hold(data)
            return
        if data.endswith(b"\n") and (_is_token(data) or not self._has_word(data)):  # the common case: tokens pass by
            self._held, self._cut = b"", False
            return
        end = data.rfind(b"\n") + 1
        if end:
            for start, line in self._telling(data, end):
                self._seen = _merged(self._seen, self._line(line, cut=self._cut and start == 0))
            self._cut = False
        self._hold(data[end:])

    @property
    def mid_line(self) -> bool:
        """Whether a stream's last piece ended within a line."""
        return self._lines and bool(self._held)

    @property
    def usage(self) -> Usage:
        """What has been found so far; call it after the last piece."""
        if self._found is None:
            self._found = self._find()
        return self._found

    def _find(self) -> Usage:
        if self._lines:
            return _merged(self._seen, self._line(self._held, cut=self._cut)) if self._held else self._seen
        held, family = self._held, self._family
        found = _read_end(family, held) if self._cut else _read(_READERS[family], held)
        return _merged(found, _FINISHED) if found.counts else found

    def _has_word(self, data: bytes) -> bool:
        for word in self._words:  # noqa: SIM110 - `any` with a generator takes twice as long
            if word in data:
                return True
        return False

    def _telling(self, data: bytes, end: int) -> Iterator[tuple[int, bytes]]:
        """The lines before `end` that may hold something, each with its offset in bytes."""
        found = [at for at in [data.find(word, 0, end) for word in self._words] if at >= 0]
        # A marker begins before its word, but in the same line.
        at = data.rfind(b"\n", 0, min(found)) + 1 if found else end
        while at < end and (match := self._tells(data, at, end)):
            start = data.rfind(b"\n", 0, match.start()) + 1
            at = data.index(b"\n", match.start())
            yield start, data[start:at]

    def _hold(self, data: bytes) -> None:
        self._cut = self._cut or len(data) > _HELD
        self._held = data[-_HELD:]

    def _line(self, line: bytes, *, cut: bool) -> Usage:
        cut = cut or len(line) > _HELD
        line = line[-_HELD:].strip()
        if cut:
            return _read_end(self._family, line) if self._may_tell(line) else _NOTHING
        if self._family is _OLLAMA:
            return _read(_ollama, line) if self._may_tell(line) else _NOTHING
        if not line.startswith(b"data:") or not self._tells(line):
            return _NOTHING
        payload = line[5:].strip()
        if payload == b"[DONE]":
            return _FINISHED if self._family is Family.OPENAI else _NOTHING
        return _read(_READERS[self._family], payload)

    def _may_tell(self, line: bytes) -> bool:
        return not line.endswith(_TOKEN) and self._tells(line) is not None


_OLLAMA = Family.OLLAMA
_FINISHED = Usage(finished=True)


def _is_token(data: bytes) -> bool:
    """Whether a piece is one line and that one a token of Ollama's: all that most pieces are asked."""
    return data.endswith(_TOKEN, 0, -1) and data.find(b"\n") == len(data) - 1


def _merged(before: Usage, after: Usage) -> Usage:
    """Both, the later numbers where there are two."""
    if before is _NOTHING or after is _NOTHING:
        return after if before is _NOTHING else before
    return Usage(
        prompt_tokens=_later(before.prompt_tokens, after.prompt_tokens),
        completion_tokens=_later(before.completion_tokens, after.completion_tokens),
        load_duration=_later(before.load_duration, after.load_duration),
        prompt_eval_duration=_later(before.prompt_eval_duration, after.prompt_eval_duration),
        eval_duration=_later(before.eval_duration, after.eval_duration),
        finished=before.finished or after.finished,
        failed=before.failed or after.failed,
    )


def _later(before: int | None, after: int | None) -> int | None:
    return before if after is None else after


def _read(reader: Callable[[bytes], Usage], text: bytes) -> Usage:
    """One JSON text. What is none tells nothing."""
    try:
        return reader(text)
    except _UNREADABLE:
        return _NOTHING


def _read_end(family: Family, text: bytes) -> Usage:
    """The end of a text that was too long to hold."""
    counts: dict[str, Any] = {}
    for name, pattern in _NUMBERS[family].items():
        values = pattern.findall(text)
        if values:
            counts[name] = int(values[-1])
    # Ollama writes its numbers in the last line of an answer only.
    return Usage(**counts, finished=family is Family.OLLAMA and bool(counts))


def _ollama(text: bytes) -> Usage:
    end = read_ollama(text)
    return Usage(
        prompt_tokens=_count(end.prompt_eval_count),
        completion_tokens=_count(end.eval_count),
        load_duration=_count(end.load_duration),
        prompt_eval_duration=_count(end.prompt_eval_duration),
        eval_duration=_count(end.eval_duration),
        finished=end.done is True,
        failed=bool(end.error),
    )


def _openai(text: bytes) -> Usage:
    """A chunk or an answer of chat completions, or an event or an answer of `/v1/responses`, which has other words."""
    end = read_openai(text)
    source = _source(end.usage, end.response)
    return Usage(
        prompt_tokens=_count(source.get("prompt_tokens", source.get("input_tokens"))),
        completion_tokens=_count(source.get("completion_tokens", source.get("output_tokens"))),
        finished=end.type == "response.completed",
        failed=bool(end.error) or end.type in {"error", "response.failed"},
    )


def _anthropic(text: bytes) -> Usage:
    end = read_anthropic(text)
    source = _source(end.usage, end.message)
    return Usage(
        prompt_tokens=_count(source.get("input_tokens")),
        completion_tokens=_count(source.get("output_tokens")),
        finished=end.type == "message_stop",
        failed=end.type == "error",
    )


_READERS: Mapping[Family, Callable[[bytes], Usage]] = {
    Family.OLLAMA: _ollama,
    Family.OPENAI: _openai,
    Family.ANTHROPIC: _anthropic,
}


def _source(usage: Any, message: Any) -> Mapping[str, Any]:
    source = usage or (message.get("usage") if isinstance(message, dict) else None)
    return source if isinstance(source, dict) else {}


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 63 else None
