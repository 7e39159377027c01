"""Reads token counts and timings from a response as it passes, without delaying it.

Most pieces are tokens: a search for a few words skips them. Lines with such a word are parsed, so that a response that
merely mentions `"eval_count"` is not misread. At most 16 KiB of a line are buffered; for a longer line (Ollama's
`context` list) the end, where every dialect puts its usage.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.registry import codec_of
from ollama_router_core.translate.token_counts import FINISHED, NO_USAGE, TokenCountFormat, Usage, count_of, duration_of

__all__ = ["Usage", "UsageReader"]

_HELD = 16 * 1024
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class UsageReader:
    """Reads the usage of one response. Feed it every piece, cut anywhere, then read `usage`.

    `size` is the length in bytes of a non-streamed response.
    """

    __slots__ = ("_cut", "_format", "_found", "_held", "_lines", "_pieces", "_seen", "_token_lines", "_words", "size")

    def __init__(self, family: Family, *, streamed: bool) -> None:
        self._format = codec_of(family).token_counts
        self._words = self._format.words
        self._token_lines = self._format.token_lines
        self._lines = streamed
        self._held = b""
        self._cut = False
        self._seen = NO_USAGE
        self._found: Usage | None = None
        self._pieces = 0
        self.size = 0

    def feed(self, piece: bytes) -> None:
        """Read the next piece of the body."""
        if piece.endswith(self._token_lines) and self._lines and not self._held and piece.find(b"\n") == len(piece) - 1:
            self._pieces += 1
            return  # one line with one token: the fast path of most pieces
        self._found = None
        data = self._held + piece if self._held else piece
        if self._lines:
            end = piece.rfind(b"\n") + 1
            if end:  # the buffered part has no line end
                end += len(data) - len(piece)
            if end and end == len(data) and not self._has_word(data):  # only tokens
                self._held, self._cut = b"", False
                self._pieces += self._pieces_in(data)
                return
            if end:
                self._look_at(data[: end - 1])
                data = data[end:]
        else:
            self.size += len(piece)
        if len(data) > _HELD:
            self._cut = True
            data = data[-_HELD:]
        self._held = data

    @property
    def pieces(self) -> int:
        """Pieces of a stream so far, about one per token; 0 for a non-streamed response."""
        return self._pieces

    @property
    def mid_line(self) -> bool:
        """Whether a stream's last piece ended within a line."""
        return self._lines and bool(self._held)

    @property
    def uncounted(self) -> int:
        """Pieces of a stream after its last token count, or all without one: about one token each."""
        usage = self.usage
        if usage.completion_tokens and (usage.finished or usage.completion_tokens != self._seen.completion_tokens):
            return 0  # the second: an unterminated last line has the count
        return self._pieces

    @property
    def usage(self) -> Usage:
        """The usage found so far; complete after the last piece."""
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
            return _read(self._format, held, whole=True)
        found = _read_end(self._format, held)
        return _merged(found, FINISHED) if found.counts else found

    def _has_word(self, data: bytes) -> bool:
        for word in self._words:  # noqa: SIM110 - `any` with a generator takes twice as long
            if word in data:
                return True
        return False

    def _look_at(self, lines: bytes) -> None:
        """Read complete lines; the first may be truncated at its start."""
        for line in lines.split(b"\n"):
            found = self._line(line, cut=self._cut) if line and self._has_word(line) else NO_USAGE
            if (found.completion_tokens or 0) > (self._seen.completion_tokens or 0):
                self._pieces = 0
            else:
                self._pieces += self._pieces_in(line)
            self._seen = _merged(self._seen, found)
            self._cut = False

    def _pieces_in(self, data: bytes) -> int:
        count = 0
        for word in self._format.pieces:
            count += data.count(word)
        return count

    def _line(self, line: bytes, *, cut: bool) -> Usage:
        """Read a line that contains one of the words."""
        counts = self._format
        if cut or len(line) > _HELD:
            line = line[-_HELD:].strip()
            tells = not line.endswith(counts.token_ends) and counts.marker.search(line) is not None
            return _read_end(counts, line) if tells else NO_USAGE
        line = line.strip()
        if counts.ends and line.startswith(counts.ends):
            return FINISHED
        payload = None if line.endswith(counts.token_ends) else counts.payload(line)
        return NO_USAGE if payload is None else _read(counts, payload, whole=False)


def _merged(before: Usage, after: Usage) -> Usage:
    """Merge two findings; later numbers replace earlier ones."""
    if before is NO_USAGE or after is NO_USAGE:
        return after if before is NO_USAGE else before
    changes = {name: value for name, value in asdict(after).items() if value is not None}
    changes |= {"finished": before.finished or after.finished, "failed": before.failed or after.failed}
    return replace(before, **changes)


def _read(counts: TokenCountFormat, text: bytes, *, whole: bool) -> Usage:
    """Read one JSON text; a `whole` response with counts is finished. Invalid JSON yields no usage."""
    try:
        usage = _with_whole_prompt(counts, counts.read(text))
    except _UNREADABLE:
        return NO_USAGE
    return replace(usage, finished=True) if whole and usage.counts else usage


def _read_end(counts: TokenCountFormat, text: bytes) -> Usage:
    """Read the end of a text that was too long to buffer."""
    found: dict[str, Any] = {}
    for name, pattern in counts.numbers.items():
        values = pattern.findall(text)
        if values:
            bounded = duration_of if name.endswith("duration") else count_of
            found[name] = bounded(int(values[-1]))
    return _with_whole_prompt(counts, Usage(**found, finished=counts.counts_end and bool(found)))


def _with_whole_prompt(counts: TokenCountFormat, usage: Usage) -> Usage:
    """Add cached tokens to the prompt's, for dialects that report them separately."""
    apart = (usage.cached_tokens or 0) + (usage.cache_write_tokens or 0)
    if not apart or not counts.cached_apart or usage.prompt_tokens is None:
        return usage
    return replace(usage, prompt_tokens=usage.prompt_tokens + apart)
