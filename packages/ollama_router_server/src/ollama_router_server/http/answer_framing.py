"""Where an answer ends: after its length, with its last chunk, or with its connection."""

from __future__ import annotations

from typing import Final

__all__ = ["AnswerFraming"]

_WITHOUT_BODY: Final = frozenset({204, 304})


class AnswerFraming:
    """The framing of one answer: the field that announces it, and the pieces of its body as they are written.

    HTTP/1.0 knows no chunks: an answer without a length ends there with the connection.

    Args:
        method: of the request.
        status: of the answer.
        length: the declared one, None without.
        version: of HTTP, the request's.

    Attributes:
        field: the line that the head has for it, beside a declared length.
        ends_with_connection: nothing else tells where the answer ends.
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
        """Return a piece of the body as it is written; without `more` it is the last.

        Raises:
            RuntimeError: the answer is longer than its declared length.
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
        """Check that an answer may end now.

        Raises:
            RuntimeError: it is shorter than its declared length.
        """
        if self._left and not self._head_only:
            raise RuntimeError("the answer is shorter than its Content-Length")
