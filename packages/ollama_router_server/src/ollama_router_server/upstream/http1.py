"""HTTP/1.1 encoding: request heads, and a push parser for responses.

httptools (llhttp in strict mode) parses. What it accepts but a relay must not is refused here: heads above 32 KiB,
versions other than 1.0 and 1.1, transfer codings other than `chunked`, any transfer coding in HTTP/1.0, an unrequested
protocol switch, bytes after the end of a response.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import httptools

from ollama_router_server.http.field_lines import encode_fields
from ollama_router_server.upstream.interface import Headers, UpstreamRequest

__all__ = ["MAX_HEAD", "MAX_PIECE", "ResponseParser", "encode_head"]

MAX_HEAD: Final = 32 * 1024
"""Maximum bytes of a response head with its interim (1xx) heads; also of framing and trailers without body bytes."""
MAX_PIECE: Final = 256 * 1024
"""Maximum bytes of a piece that `ResponseParser.take` returns, unless a longer one was fed."""

_ENGINE_FIELDS: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
_WITHOUT_BODY: Final = frozenset({204, 304})
_NO_LENGTH_NEEDED: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


def encode_head(request: UpstreamRequest, host_line: bytes) -> bytes:
    """Encode the request line and fields.

    Args:
        request: the request; its framing follows from `body` and `body_length`.
        host_line: the Host field with its line end; the same for all requests to one origin.

    Raises:
        ValueError: the target or a field contains a separator, or a field is one that the engine writes.
    """
    fields = request.headers
    if not _ENGINE_FIELDS.isdisjoint([name for name, _ in fields]):
        raise ValueError("Host, Connection and framing fields are written by the engine")
    start = _start_line(request.method, request.target)
    return b"%b%b%b%b\r\n" % (start, host_line, encode_fields(fields), _framing_line(request))


@lru_cache(maxsize=256)
def _start_line(method: str, target: str) -> bytes:
    start = f"{method} {target} HTTP/1.1\r\n".encode("ascii")
    if start.count(b"\n") != 1 or start.count(b"\r") != 1 or b"\0" in start or start.count(b" ") != 2:
        raise ValueError("the target of an upstream request holds control characters or blanks")
    return start


def _framing_line(request: UpstreamRequest) -> bytes:
    if isinstance(request.body, bytes):
        if not request.body and request.method in _NO_LENGTH_NEEDED:
            return b""
        return b"content-length: %d\r\n" % len(request.body)
    if request.body_length is None:
        return b"transfer-encoding: chunked\r\n"
    return b"content-length: %d\r\n" % request.body_length


class _RefusedError(Exception):
    """Stop httptools from inside a callback; the reason is in `ResponseParser.broken`."""


class ResponseParser:
    """Parse the responses of one connection, one after another; the result does not depend on segments.

    The `on_...` methods are httptools' protocol. Call `begin` before each request.

    Attributes:
        status: the final status code; 0 until its head has arrived.
        headers: the fields of that head; names in lower case.
        buffered: bytes of the body that `take` has not returned yet.
        complete: whether the response has ended according to its framing.
        keep_alive: whether another request may follow on this connection; valid once `complete`.
        broken: why parsing stopped; None if it did not.
    """

    __slots__ = (
        "_chunks",
        "_fields",
        "_head_only",
        "_head_size",
        "_parser",
        "_quiet",
        "_until_close",
        "broken",
        "buffered",
        "complete",
        "headers",
        "keep_alive",
        "on_body",
        "status",
    )

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.on_body = self._chunks.append  # httptools' callback, kept direct: a response may have very many chunks
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._head_only = False
        self.complete = True
        self.keep_alive = True
        self._reset()

    def _reset(self) -> None:
        self._chunks.clear()
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._quiet = 0
        self._until_close = False
        self.broken: str | None = None
        self.buffered = 0
        self.headers: Headers = ()
        self.status = 0

    def begin(self, *, head_only: bool = False) -> None:
        """Prepare for the response to a new request; `head_only` means that its method is HEAD."""
        if self._head_only:
            # llhttp does not know the method and still waits for the body of the previous response.
            self._parser = httptools.HttpResponseParser(self)
        self._head_only = head_only
        self.complete = self.keep_alive = False
        self._reset()

    def release(self) -> None:
        """Break the reference cycle with httptools; the parser cannot be fed afterwards."""
        self._parser = None

    def feed(self, data: bytes | memoryview) -> None:
        """Parse the next bytes; on failure, set `broken`; what was parsed before stays readable."""
        if not self.status:
            self._feed_head(data)
        else:
            before = self.buffered
            self._parse(data)
            if self.buffered != before:
                self._quiet = 0
            else:
                self._count_quiet(len(data))

    def feed_eof(self) -> None:
        """Handle the end of the connection: it completes a response without a length and truncates any other."""
        self.keep_alive = False
        if self._until_close and self.broken is None:
            self.complete = True

    @property
    def untouched(self) -> bool:
        """Whether no byte of the response has arrived."""
        return not self.status and not self._head_size

    def take(self) -> bytes:
        """Remove and return the buffered bytes, at most about `MAX_PIECE`; b"" if there are none."""
        chunks = self._chunks
        if len(chunks) == 1:
            self.buffered = 0
            return chunks.pop()
        if self.buffered <= MAX_PIECE:
            self.buffered = 0
            piece = b"".join(chunks)
            chunks.clear()
            return piece
        size = count = 0
        while not count or size + len(chunks[count]) <= MAX_PIECE:
            size += len(chunks[count])
            count += 1
        piece = b"".join(chunks[:count])
        del chunks[:count]
        self.buffered -= size
        return piece

    def discard(self) -> None:
        """Drop the buffered bytes."""
        self._chunks.clear()
        self.buffered = 0

    def _feed_head(self, data: bytes | memoryview) -> None:
        """Parse a head up to its size limit, and the remaining bytes only if the head ended before it."""
        room, size = MAX_HEAD - self._head_size, len(data)
        self._head_size += size
        if size <= room:
            self._parse(data)
            return
        self._parse(data[:room])
        if not self.status:
            self.broken = self.broken or f"a head of more than {MAX_HEAD} bytes"
        else:
            self._parse(data[room:])

    def _parse(self, data: bytes | memoryview) -> None:
        if self.complete or self.broken is not None or self._parser is None:
            self.keep_alive = False
            return
        before = len(self._chunks)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stopped(str(error))
        if len(self._chunks) > before:
            self._count_body(before)

    def _count_body(self, before: int) -> None:
        """Count new body chunks, which are free of framing."""
        if self._head_only:
            self._chunks.clear()
            self.keep_alive = False
        else:
            self.buffered += sum(map(len, self._chunks[before:] if before else self._chunks))

    def _stopped(self, reason: str) -> None:
        if self.complete:
            self.keep_alive = False
        elif self.broken is None:
            self.broken = reason

    def _count_quiet(self, size: int) -> None:
        """Bound the bytes of trailers and chunk extensions, which are dropped."""
        self._quiet += size
        if self._quiet > MAX_HEAD and not self.complete:
            self.broken = self.broken or f"more than {MAX_HEAD} bytes of trailers or chunk extensions"

    def _refuse(self, reason: str) -> None:
        self.broken = reason
        raise _RefusedError

    # httptools' protocol ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Start a new head: the first, one after an interim response, or an unrequested one."""
        if self.complete:
            raise _RefusedError
        self._fields = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field of a head; drop trailers."""
        if not self.status:
            self._fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """End a head: skip an interim one, check the framing of a final one."""
        parser = self._parser
        assert parser is not None  # noqa: S101  # it is calling us
        status = parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        if not 200 <= status < 600:
            self._refuse(f"status {status} was not asked for")
        self._check_framing(parser.get_http_version(), status)
        self.headers = tuple(self._fields)
        self.status = status
        if self._head_only:
            self.complete = True
            self.keep_alive = parser.should_keep_alive()

    def on_message_complete(self) -> None:
        """Mark the response as complete according to its framing."""
        if self.status and not self._head_only and self._parser is not None:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()

    def _check_framing(self, version: str, status: int) -> None:
        if version not in {"1.1", "1.0"}:
            self._refuse(f"HTTP/{version}")
        length = chunked = False
        for name, value in self._fields:
            if name == b"content-length":
                length = True
                if not value.isdigit():
                    self._refuse("a Content-Length that is not a number")
            elif name == b"transfer-encoding":
                if chunked or version == "1.0" or value.lower() != b"chunked":
                    self._refuse("a Transfer-Encoding other than one `chunked` in HTTP/1.1")
                chunked = True
        self._until_close = not (length or chunked or self._head_only or status in _WITHOUT_BODY)
