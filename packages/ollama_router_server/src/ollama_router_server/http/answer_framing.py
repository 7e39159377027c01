"""Where a response ends: at its length, at its last chunk, or with its connection."""

from __future__ import annotations

from typing import Final

__all__ = ["AnswerFraming"]

_WITHOUT_BODY: Final = frozenset({204, 304})


class AnswerFraming:
    """The framing of one response: the header field that declares it, and the encoding of its body's pieces.

    HTTP/1.0 has no chunked coding: a response without a length ends with the connection.

    Args:
        method: the request's method.
        status: the response's status.
        length: the declared length in bytes; None without one.
        version: the request's HTTP version.

    Attributes:
        field: the header line for the framing; empty with a declared length.
        ends_with_connection: the end of the connection is the only end marker.
    """

    __slots__ = ("_chunked", "_head_only", "_left", "ends_with_connection", "field")

    def __init__(self, method: str, status: int, length: int | None, version: str) -> None:
        self._head_only = method == "HEAD"
        self._left = length or 0
        unknown = length is None and not self._head_only and status not in _WITHOUT_BODY
        self._chunked = unknown and version != "1.0"
        self.ends_with_connection = unknown and not self._chunked
        self.field = b"transfer-encoding: chunked\r\n" if self._chunked else b""

    def frame(self, piece: bytes, *, more: bool) -> bytes:
        """Return a piece of the body as sent on the wire; `more` is False for the last one.

        Raises:
            RuntimeError: the response is longer than its declared length.
        """
        if self._head_only:
            return b""
        if self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        if self.ends_with_connection:
            return piece
        self._left = left = self._left - len(piece)
        if left < 0:
            raise RuntimeError("the answer is longer than its Content-Length")
        return piece

    def check_complete(self) -> None:
        """Check that the response may end now.

        Raises:
            RuntimeError: the response is shorter than its declared length.
        """
        if self._left and not self._head_only:
            raise RuntimeError("the answer is shorter than its Content-Length")
