"""Read tokens and timings out of an answer while its bytes pass, without changing or holding them.

Most pieces are tokens passing by: a search for a few words tells that they hold nothing, and they are let go. Lines
that may hold something are parsed, so an answer that talks about `"eval_count"` is not taken for one that has it. At
most 16 KiB of a line are held; of a longer one (Ollama's `context` list) the end, where every dialect puts its usage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ollama_router_core.api.endpoints import Family
from ollama_router_core.responses.usage_members import (
    AnyOllamaEnd,
    OllamaEnd,
    read_anthropic,
    read_any_ollama,
    read_ollama,
    read_openai,
)

__all__ = ["Usage", "UsageReader"]

_HELD = 16 * 1024


class Usage(Struct, frozen=True, kw_only=True):
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
# A line without one of these words tells nothing. Looking for words costs a tenth of looking for patterns.
_WORDS: Mapping[Family, tuple[bytes, ...]] = {
    Family.OLLAMA: (b"true", b"eval_", b'load_duration"', b'"error"'),
    Family.OPENAI: (b'"usage"', b'"error"', b"response.", b"[DONE]"),
    Family.ANTHROPIC: (b'"usage"', b'message_stop"', b'"error"'),
}
# What must stand in the end of a line that is not whole, of which only patterns make something.
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
_TOKEN_LINE = _TOKEN + b"\n"


class UsageReader:
    """Watches one answer. Feed it every piece, then ask for `usage`; how the bytes are cut makes no difference."""

    __slots__ = ("_cut", "_family", "_found", "_held", "_lines", "_seen", "_words")

    def __init__(self, family: Family, *, streamed: bool) -> None:
        self._family = family
        self._words = _WORDS[family]
        self._lines = streamed
        self._held = b""
        self._cut = False
        self._seen = _NOTHING
        self._found: Usage | None = None

    def feed(self, piece: bytes) -> None:
        """Look at the next piece of the body."""
        if piece.endswith(_TOKEN_LINE) and self._lines and not self._held and piece.find(b"\n") == len(piece) - 1:
            return  # one line and that one a token of Ollama's: all that most pieces are asked
        self._found = None
        data = self._held + piece if self._held else piece
        if self._lines:
            end = data.rfind(b"\n") + 1
            if end and end == len(data) and not self._has_word(data):  # tokens of others pass by
                self._held, self._cut = b"", False
                return
            if end:
                self._look_at(data[: end - 1])
                data = data[end:]
        if len(data) > _HELD:
            self._cut = True
            data = data[-_HELD:]
        self._held = data

    @property
    def mid_line(self) -> bool:
        """Whether a stream's last piece ended within a line."""
        return self._lines and bool(self._held)

    @property
    def usage(self) -> Usage:
        """What has been found so far; call it after the last piece."""
        found = self._found
        if found is None:
            found = self._found = self._find()
        return found

    def _find(self) -> Usage:
        held = self._held
        if self._lines:
            tells = held and self._has_word(held)
            return _merged(self._seen, self._line(held, cut=self._cut)) if tells else self._seen
        if not self._cut:
            return _read(self._family, held, whole=True)
        found = _read_end(self._family, held)
        return _merged(found, _FINISHED) if found.counts else found

    def _has_word(self, data: bytes) -> bool:
        for word in self._words:  # noqa: SIM110 - `any` with a generator takes twice as long
            if word in data:
                return True
        return False

    def _look_at(self, lines: bytes) -> None:
        """Whole lines, the first of which may have lost its beginning."""
        for line in lines.split(b"\n"):
            if line and self._has_word(line):
                self._seen = _merged(self._seen, self._line(line, cut=self._cut))
            self._cut = False

    def _line(self, line: bytes, *, cut: bool) -> Usage:
        """What a line with one of the words tells."""
        if cut or len(line) > _HELD:
            line = line[-_HELD:].strip()
            tells = not line.endswith(_TOKEN) and _MARKERS[self._family].search(line) is not None
            return _read_end(self._family, line) if tells else _NOTHING
        line = line.strip()
        if self._family is _OLLAMA:
            return _read(_OLLAMA, line, whole=False) if not line.endswith(_TOKEN) else _NOTHING
        if not line.startswith(b"data:"):
            return _NOTHING
        payload = line[5:].strip()
        if payload == b"[DONE]":
            return _FINISHED if self._family is _OPENAI else _NOTHING
        return _read(self._family, payload, whole=False)


_OLLAMA, _OPENAI = Family.OLLAMA, Family.OPENAI  # members cost a look-up
_FINISHED = Usage(finished=True)


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


def _read(family: Family, text: bytes, *, whole: bool) -> Usage:
    """One JSON text; a `whole` answer with numbers is a finished one. What is no JSON tells nothing."""
    try:
        if family is _OPENAI:
            return _openai(text, whole=whole)
        return _ollama(text, whole=whole) if family is _OLLAMA else _anthropic(text, whole=whole)
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


def _ollama(text: bytes, *, whole: bool) -> Usage:
    try:
        end = read_ollama(text)
    except msgspec.ValidationError:
        end = _counted(read_any_ollama(text))
    return Usage(
        prompt_tokens=end.prompt_eval_count,
        completion_tokens=end.eval_count,
        load_duration=end.load_duration,
        prompt_eval_duration=end.prompt_eval_duration,
        eval_duration=end.eval_duration,
        finished=end.done is True or (whole and _counts(end)),
        failed=bool(end.error),
    )


def _counted(end: AnyOllamaEnd) -> OllamaEnd:
    """Without what is no count."""
    return OllamaEnd(
        done=end.done,
        error=end.error,
        prompt_eval_count=_count(end.prompt_eval_count),
        eval_count=_count(end.eval_count),
        load_duration=_count(end.load_duration),
        prompt_eval_duration=_count(end.prompt_eval_duration),
        eval_duration=_count(end.eval_duration),
    )


def _counts(end: OllamaEnd) -> bool:
    numbers = (end.prompt_eval_count, end.eval_count, end.load_duration, end.prompt_eval_duration, end.eval_duration)
    return any(number is not None for number in numbers)


def _openai(text: bytes, *, whole: bool) -> Usage:
    """A chunk or an answer of chat completions, or an event or an answer of `/v1/responses`, which has other words."""
    end = read_openai(text)
    source, kind = _source(end.usage, end.response), end.type
    prompt = _count(source.get("prompt_tokens", source.get("input_tokens")))
    answer = _count(source.get("completion_tokens", source.get("output_tokens")))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=answer,
        finished=kind == "response.completed" or (whole and (prompt is not None or answer is not None)),
        failed=bool(end.error) or kind in ("error", "response.failed"),  # which may be a list
    )


def _anthropic(text: bytes, *, whole: bool) -> Usage:
    end = read_anthropic(text)
    source, kind = _source(end.usage, end.message), end.type
    prompt, answer = _count(source.get("input_tokens")), _count(source.get("output_tokens"))
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=answer,
        finished=kind == "message_stop" or (whole and (prompt is not None or answer is not None)),
        failed=kind == "error",
    )


def _source(usage: Any, message: Any) -> Mapping[str, Any]:
    source = usage or (message.get("usage") if isinstance(message, dict) else None)
    return source if isinstance(source, dict) else {}


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 63 else None
