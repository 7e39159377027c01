"""Splitting of a byte stream into payloads: lines of NDJSON, data of server-sent events.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, except that a lone carriage return does not end
a line: no server sends it, and at a chunk boundary it is ambiguous with CR LF.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ollama_router_core.translate.errors import StreamEventTooLarge
from ollama_router_core.translate.json_text import encode

__all__ = [
    "MAX_EVENT_BYTES",
    "NDJSON",
    "SERVER_SENT_EVENTS",
    "EventData",
    "Frames",
    "Framing",
    "Lines",
    "WholeText",
    "event_data",
]

MAX_EVENT_BYTES = 8 * 1024 * 1024
"""Maximum buffered bytes of an incomplete line or event; Ollama's own client accepts lines of this size."""


_BLANKS = b" \t\r\n\xef\xbb\xbf"
"""Bytes allowed before a body, including a byte order mark."""


class Lines:
    """Lines that end in LF or CR LF; empty lines are omitted."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._held = 0
        self._overflow = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads completed by `data`, in order, up to the first that is too large."""
        return [line for line in self.split(data) if line]

    def split(self, data: bytes) -> list[bytes]:
        """Split as `feed` does, keeping empty lines."""
        lines = data.split(b"\n")
        tail = lines.pop()
        large = self._held + len(data) > self._max_bytes
        if lines:
            if self._pieces:
                lines[0] = b"".join((*self._pieces, lines[0]))
                self._pieces = []
                self._held = 0
            if b"\r" in data or lines[0].endswith(b"\r"):
                lines = [line.removesuffix(b"\r") for line in lines]
        if tail:
            self._pieces.append(tail)
            self._held += len(tail)
        return self._within_cap(lines) if large else lines

    def end(self) -> list[bytes]:
        """Return the payload completed by the end of the stream, if any: a last line may lack its LF."""
        return self.feed(b"\n") if self._pieces else []

    def check(self) -> None:
        """Check the size limit; call it after processing the returned payloads.

        Raises:
            StreamEventTooLarge: a payload was too large.
        """
        if self._overflow:
            raise _too_large(self._max_bytes)

    def _within_cap(self, lines: list[bytes]) -> list[bytes]:
        for index, line in enumerate(lines):
            if len(line) > self._max_bytes:
                self._overflow = True
                return lines[:index]
        # One byte more than the cap may be the CR of CR LF.
        self._overflow = self._overflow or self._held > self._max_bytes + 1
        return lines


class EventData:
    """The data of server-sent events; names, ids, comments and events without data are omitted."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lines = Lines(max_bytes)
        self._data: list[bytes] = []
        self._held = 0
        self._error = False

    def feed(self, data: bytes) -> list[bytes]:
        """See `Lines.feed`."""
        payloads: list[bytes] = []
        for line in self._lines.split(data):
            if line[:5] == b"data:":
                self._take(line[6:] if line[5:6] == b" " else line[5:])
            elif not line and self._data:
                payloads.append(self._dispatch())
            elif line == b"event: error":
                self._error = True
            elif line[:6] == b"error:":  # llama.cpp's, until 2025
                self._take(b'{"error":' + line[6:] + b"}")
            elif line == b"data":
                self._take(b"")
            if self._held > self._max_bytes:
                break
        return payloads

    def end(self) -> list[bytes]:
        """See `Lines.end`: the last event may lack its empty line."""
        return self.feed(b"\n\n")

    def check(self) -> None:
        """See `Lines.check`."""
        self._lines.check()
        if self._held > self._max_bytes:
            raise _too_large(self._max_bytes)

    def _take(self, value: bytes) -> None:
        self._data.append(value)
        # One more for each line, so that empty lines count.
        self._held += len(value) + 1

    def _dispatch(self) -> bytes:
        payload = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data = []
        self._held = 0
        if self._error:
            self._error = False
            if payload[:1] != b"{":  # plain text, as some proxies report errors
                return encode({"error": payload.decode("utf-8", "replace")})
        return payload


Frames = Lines | EventData
"""Split a byte stream into complete payloads."""


class WholeText:
    """Capture a JSON text sent instead of events. Leading blanks are buffered until that is decided.

    Attributes:
        begun: whether a JSON text has started.
    """

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._pieces: list[bytes] = []
        self._room = max_bytes
        self._max_bytes = max_bytes
        self.begun = False

    def take(self, data: bytes) -> bytes:
        """Add a piece; return the bytes that belong to a stream of events.

        Raises:
            StreamEventTooLarge: the text is too large.
        """
        self._pieces.append(data)
        self._room -= len(data)
        if self._room < 0:
            raise _too_large(self._max_bytes)
        if self.begun:
            return b""
        first = data.lstrip(_BLANKS)[:1]
        if not first:
            return b""
        if first in b"{[":
            self.begun = True
            return b""
        return self.text()

    def text(self) -> bytes:
        """Return the buffered text."""
        return b"".join(self._pieces).lstrip(_BLANKS)


def event_data(line: bytes) -> bytes | None:
    """Return the data of an event's line; None for any other line."""
    return line[5:].strip() if line.startswith(b"data:") else None


class Framing(Struct, frozen=True, kw_only=True):
    """How a stream is split into payloads.

    `end` terminates a payload; `frames` creates a splitter with a buffer limit in bytes. `is_stream` distinguishes a
    stream from a whole reply, which some servers send instead. `of_lines` means that a payload is a line: a whole reply
    is then a stream of one.
    """

    media_type: str
    end: bytes
    frames: Callable[[int], Frames]
    is_stream: Callable[[bytes], bool]
    of_lines: bool = False


def _is_event(body: bytes) -> bool:
    return body[:64].lstrip(_BLANKS).startswith((b"data:", b"event:", b"id:", b"retry:", b"error:", b":"))


def _is_several_lines(body: bytes) -> bool:
    first, _, rest = body.strip(_BLANKS).partition(b"\n")
    return bool(rest) and first.startswith(b"{") and first.rstrip().endswith(b"}")


NDJSON = Framing(media_type="application/x-ndjson", end=b"\n", frames=Lines, is_stream=_is_several_lines, of_lines=True)
SERVER_SENT_EVENTS = Framing(media_type="text/event-stream", end=b"\n\n", frames=EventData, is_stream=_is_event)


def _too_large(max_bytes: int) -> StreamEventTooLarge:
    return StreamEventTooLarge(f"a line or event of the server's stream is larger than {max_bytes} bytes")
