"""Bytes to the payloads of a stream, however they are cut: lines of NDJSON, data of server-sent events.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, without the lone carriage return as the end of
a line, which no server writes and which cannot be told from the first half of CR LF at a cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

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
"""The most bytes of one unfinished line or event that are held; Ollama's own client takes lines of this size."""


_BLANKS = b" \t\r\n\xef\xbb\xbf"
"""What may stand before a body, a byte order mark among it."""


class Frames(Protocol):
    """Takes bytes as they come, gives the payloads that are complete."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that `data` completes, in order, up to the first that is too large."""
        ...

    def end(self) -> list[bytes]:
        """Return the payload that the end of the stream completes, if there is one."""
        ...

    def check(self) -> None:
        """Raise if something was too large; call it after using the payloads before it.

        Raises:
            StreamEventTooLarge: it was.
        """
        ...


class Lines:
    """Lines that end in LF or CR LF; empty ones are left out."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._held = 0
        self._overflow = False

    def feed(self, data: bytes) -> list[bytes]:
        """See `Frames.feed`."""
        return [line for line in self.split(data) if line]

    def split(self, data: bytes) -> list[bytes]:
        """Do as `feed` does, and keep empty lines."""
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
        """See `Frames.end`: a last line may lack its LF."""
        return self.feed(b"\n") if self._pieces else []

    def check(self) -> None:
        """See `Frames.check`."""
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
    """The data of server-sent events; names, ids, comments and events without data are left out."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lines = Lines(max_bytes)
        self._data: list[bytes] = []
        self._held = 0
        self._error = False

    def feed(self, data: bytes) -> list[bytes]:
        """See `Frames.feed`."""
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
        """See `Frames.end`: the last event may lack its empty line."""
        return self.feed(b"\n\n")

    def check(self) -> None:
        """See `Frames.check`."""
        self._lines.check()
        if self._held > self._max_bytes:
            raise _too_large(self._max_bytes)

    def _take(self, value: bytes) -> None:
        self._data.append(value)
        # One more for each, lest empty lines be held without end.
        self._held += len(value) + 1

    def _dispatch(self) -> bytes:
        payload = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data = []
        self._held = 0
        if self._error:
            self._error = False
            if payload[:1] != b"{":  # a text, as some proxies tell what went wrong
                return encode({"error": payload.decode("utf-8", "replace")})
        return payload


class WholeText:
    """Catches one JSON text that is given in place of events. Blanks before it are held until that is known."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._pieces: list[bytes] = []
        self._room = max_bytes
        self._max_bytes = max_bytes
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether it is a JSON text."""
        return self._begun

    def take(self, data: bytes) -> bytes:
        """Take a piece; return what turns out to belong to a stream.

        Raises:
            StreamEventTooLarge: the text is.
        """
        self._pieces.append(data)
        self._room -= len(data)
        if self._room < 0:
            raise _too_large(self._max_bytes)
        if self._begun:
            return b""
        first = data.lstrip(_BLANKS)[:1]
        if not first:
            return b""
        if first in b"{[":
            self._begun = True
            return b""
        return self.text()

    def text(self) -> bytes:
        """Return what was taken."""
        return b"".join(self._pieces).lstrip(_BLANKS)


def event_data(line: bytes) -> bytes | None:
    """Return the data in one line of an event, None for a line that has none."""
    return line[5:].strip() if line.startswith(b"data:") else None


class Framing(Struct, frozen=True, kw_only=True):
    """How a stream is cut into payloads.

    `end` terminates a payload; `frames` makes a splitter that holds at most so many bytes. `is_stream` tells such a
    stream from a whole answer, which some servers give in its place. `of_lines` says that a payload is a line: a whole
    answer is then a stream of one.
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
