"""A strict parser of HTTP/1.1 requests, without I/O.

The parser splits the bytes into heads and bodies before llhttp sees them: a head is buffered until it is complete,
checked, and only then parsed; a body is fed up to its own end. The outcome therefore does not depend on segments, and
nothing after a refusal, or after a request that closes the connection, is parsed.

    HEAD --complete and valid--> SIZED or CHUNKED --last byte--> HEAD    (without a body: HEAD again at once)
    any  --refused, or the last request--> closed                        (further bytes are discarded)
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, Literal

import httptools

from ollama_router_server.http.head import (
    Refusal,
    check_fields,
    check_method,
    check_partial,
    check_target,
    too_large,
    without_upgrade,
)
from ollama_router_server.http.protocol_limits import Bounds
from ollama_router_server.http.request_head import RequestHead

__all__ = ["END", "Event", "RequestParser"]


class _Expected(Enum):
    HEAD = "head"
    SIZED = "sized"
    CHUNKED = "chunked"


class _End(Enum):
    END = "end"


END: Final = _End.END
"""The event at the end of a request."""

Event = RequestHead | bytes | Literal[_End.END] | Refusal
"""A head; a non-empty piece of its body; the end of the request; or a refusal, after which parsing stops."""

_LONGEST_METHOD: Final = len("CONNECT ")
_BAD_HEAD: Final = Refusal(400, "the head is not valid HTTP/1.1")
_BAD_BODY: Final = Refusal(400, "the body's framing is broken")
_HEAD_END: Final = b"\r\n\r\n"
_HEAD_END_SIZE: Final = len(_HEAD_END)


class _StoppedError(Exception):
    """Stop llhttp from inside a callback; the reason is in `_refusal`, or `_upgrade` is set."""


class RequestParser:
    """Parse the requests of one connection, one after another.

    Call `feed` with what arrives, then `next_event` until it returns None. To serve one request at a time, do not call
    `next_event` while `between_requests`. The `on_...` methods are httptools' protocol.

    Args:
        bounds: the limits of heads, framing and trailers; read for each head and chunk.
    """

    __slots__ = (
        "_bounds",
        "_closed",
        "_data",
        "_events",
        "_expected",
        "_headers",
        "_left",
        "_llhttp",
        "_offset",
        "_payload",
        "_quiet",
        "_raw",
        "_refusal",
        "_seen",
        "_skipped",
        "_target",
        "_upgrade",
    )

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._llhttp: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._expected = _Expected.HEAD
        self._closed = False
        self._events: deque[Event] = deque()
        self._data = b""
        self._offset = 0  # index in `_data` of the first unparsed byte
        self._seen = self._skipped = 0  # of a head: bytes already scanned, and blank-line bytes before it
        self._left = 0  # bytes left of a sized body
        self._raw = self._payload = self._quiet = 0  # of a chunked body: all bytes, payload bytes, those since
        self._refusal: Refusal | None = None
        self._upgrade = False
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []

    @property
    def held(self) -> int:
        """Bytes fed but not yet parsed."""
        return len(self._data) - self._offset

    @property
    def in_body(self) -> bool:
        """Whether a request's body has started and not ended; a refusal does not change this."""
        return self._expected is not _Expected.HEAD

    @property
    def between_requests(self) -> bool:
        """Whether the next event, if any, is a head or its refusal."""
        return self._expected is _Expected.HEAD and not self._events

    @property
    def closed(self) -> bool:
        """Whether no more events follow."""
        return self._closed and not self._events

    def feed(self, data: bytes) -> None:
        """Add the next bytes from the connection."""
        if self._closed:
            return
        if self._offset < len(self._data):
            data = self._data[self._offset :] + data
        self._data = data
        self._offset = 0

    def next_event(self) -> Event | None:
        """Return the next event; None until more bytes are fed."""
        events = self._events
        while not events:
            if self._closed or self._offset >= len(self._data) or not self._parse():
                return None
        return events.popleft()

    def close(self) -> None:
        """Drop buffered bytes and events; no more events follow."""
        self._closed = True
        self._events.clear()
        self._discard()
        self._llhttp = None  # breaks the reference cycle

    # splitting ----------------------------------------------------------------------------------------

    def _parse(self) -> bool:
        """Parse some of the buffered bytes; return False if more are needed."""
        expected = self._expected
        if expected is _Expected.HEAD:
            return self._parse_head()
        if expected is _Expected.SIZED:
            self._parse_sized()
        else:
            self._parse_chunked()
        return True

    def _parse_head(self) -> bool:
        self._skip_blank_lines()
        data, start = self._data, self._offset
        limit = self._bounds.limits.header_bytes - self._skipped
        seen = max(0, self._seen - _HEAD_END_SIZE + 1)
        end = data[start + seen :].find(_HEAD_END) if seen else data.find(_HEAD_END, start) - start
        if end < 0:
            return self._judge_partial(start, limit)
        end += start + seen + _HEAD_END_SIZE
        refusal = too_large(data[start : max(start, start + limit)]) if end - start > limit else _misfit(data, start)
        if refusal is not None:
            self._refuse(refusal)
            return True
        self._offset = end
        self._seen = self._skipped = 0
        self._feed_llhttp(data[start:end], _BAD_HEAD)
        if self._upgrade:
            self._upgrade = False
            self._llhttp = httptools.HttpRequestParser(self)
            self._feed_llhttp(without_upgrade(data[start:end]), _BAD_HEAD)
        return True

    def _skip_blank_lines(self) -> None:
        """Drop line ends before a head; they count towards its size."""
        data, start = self._data, self._offset
        if self._seen == 0:
            while data.startswith(b"\r\n", start):
                start += 2
            self._skipped += start - self._offset
            self._offset = start

    def _judge_partial(self, start: int, limit: int) -> bool:
        """Check an incomplete head from where the last check ended; return whether it was refused."""
        data, held = self._data, self.held
        refusal = check_partial(data, start, self._seen, self._bounds.limits) if held else None
        self._seen = 0 if data.endswith(b"\r", start) and held == 1 else held
        if refusal is None and held > limit:
            refusal = too_large(data[start : max(start, start + limit)])
        if refusal is not None:
            self._refuse(refusal)
        return refusal is not None

    def _parse_sized(self) -> None:
        piece = self._data[self._offset : self._offset + self._left]
        self._offset += len(piece)
        self._left -= len(piece)
        self._feed_llhttp(piece, _BAD_BODY)

    def _parse_chunked(self) -> None:
        """Parse up to the next possible end of the body, which is always an empty line.

        The empty line may have started in the previous segment, so the first three bytes are fed one by one; it may
        also start within those three.
        """
        data, offset, payload = self._data, self._offset, self._payload
        if offset < 3:
            stop = offset + 1
        else:
            end = data.find(_HEAD_END, offset - 3)
            stop = len(data) if end < 0 else end + _HEAD_END_SIZE
        self._offset = stop
        self._raw += stop - offset
        self._feed_llhttp(data[offset:stop], _BAD_BODY)
        self._quiet = self._quiet + stop - offset if self._payload == payload else 0
        limit = self._bounds.limits.header_bytes
        if self._quiet > limit or self._raw - self._payload > limit + self._payload:
            self._refuse(Refusal(400, "more framing than body"))

    def _feed_llhttp(self, data: bytes, otherwise: Refusal) -> None:
        if self._llhttp is None:
            return
        try:
            self._llhttp.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._upgrade:
                self._refuse(self._refusal or otherwise)
        if self._offset >= len(self._data):  # do not keep a segment in memory while the connection is idle
            self._data, self._offset = b"", 0

    def _refuse(self, refusal: Refusal) -> None:
        if not self._closed:
            self._closed = True
            self._events.append(refusal)
            self._discard()

    def _discard(self) -> None:
        self._data = b""
        self._offset = 0

    # httptools' protocol ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Reset the state for a new head."""
        self._target = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        """Append a part of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field of a head; drop trailers."""
        if self._expected is _Expected.HEAD:
            self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Check the parsed head and determine where its body ends."""
        parser = self._llhttp
        assert parser is not None  # noqa: S101 - it is calling us
        version, limits, fields = parser.get_http_version(), self._bounds.limits, self._headers
        named = dict(fields)
        self._refusal = check_target(self._target, limits) or check_fields(fields, named, version, limits)
        self._upgrade = self._refusal is None and parser.should_upgrade()
        if self._refusal is not None or self._upgrade:
            raise _StoppedError
        self._expect_body(named)
        self._events.append(
            RequestHead(
                parser.get_method().decode("ascii"),
                self._target,
                fields,
                version,
                version != "1.0" and parser.should_keep_alive(),
                version == "1.1" and named.get(b"expect", b"").lower() == b"100-continue",
            )
        )

    def _expect_body(self, named: dict[bytes, bytes]) -> None:
        length = named.get(b"content-length")
        if length is not None:
            self._left = int(length)
            self._expected = _Expected.SIZED
        elif b"transfer-encoding" in named:
            self._raw = self._payload = self._quiet = 0
            self._expected = _Expected.CHUNKED

    def on_body(self, body: bytes) -> None:
        """Emit a piece of the body."""
        self._payload += len(body)
        self._events.append(body)

    def on_message_complete(self) -> None:
        """End a request; stop parsing if it closes the connection."""
        parser = self._llhttp
        assert parser is not None  # noqa: S101 - it is calling us
        self._expected = _Expected.HEAD
        self._events.append(END)
        if not parser.should_keep_alive():
            self._closed = True
            self._discard()


def _misfit(data: bytes, start: int) -> Refusal | None:
    """Refuse what llhttp accepts in a request line: line ends before the method, extra blanks, TRACE and CONNECT."""
    if not 65 <= data[start] <= 90 or data.count(b" ", start, data.find(b"\r", start)) != 2:
        return _BAD_HEAD
    return check_method(data[start : start + _LONGEST_METHOD])
