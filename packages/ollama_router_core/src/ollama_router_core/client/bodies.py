"""An answer's bytes on their way to the program: watched, translated, counted. No I/O here."""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.client.room import Account
from ollama_router_core.errors import UpstreamDisconnected, UpstreamError
from ollama_router_core.translate import StreamTranslator

__all__ = ["AnswerBody", "Whole"]


class Whole:
    """The pieces of an answer that is wanted as a whole; `take` says False once they are more than `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._pieces: list[bytes] = []

    def take(self, piece: bytes) -> bool:
        """Take one more."""
        self._pieces.append(piece)
        self._size += len(piece)
        return self._size <= self._most

    def content(self) -> bytes:
        """Join all of them."""
        return b"".join(self._pieces)


class AnswerBody(Struct):
    """One answer, translated or as it is.

    `failure` is set once it cannot be complete: the program's reading then ends with an exception.
    """

    _account: Account
    _translator: StreamTranslator | None = None
    ended: bool = False
    failure: UpstreamError | None = None

    def __repr__(self) -> str:
        return f"AnswerBody({self._account!r})"

    def feed(self, piece: bytes) -> bytes:
        """Take a piece of the server's answer; return what the program gets for it."""
        account, translator = self._account, self._translator
        account.note(piece)
        written = piece
        if translator is not None:
            written = translator.feed(piece, elapsed_ns=account.elapsed_ns())
            if translator.failure is not None:
                self._end(translator.failure)
        account.bytes_out += len(written)
        return written

    def finish(self) -> bytes:
        """Note that the server's bytes have ended; return what the program still gets."""
        translator = self._translator
        if translator is None:
            self._end(None)
            return b""
        tail = translator.finish(elapsed_ns=self._account.elapsed_ns())
        self._account.bytes_out += len(tail)
        self._end(translator.failure)
        return tail

    def broke(self, error: Exception) -> bytes:
        """Note that reading the server's bytes raised; return what the program gets before the exception goes on."""
        failure = UpstreamDisconnected(f"the answer broke off: {type(error).__name__}")
        tail = b"" if self._translator is None else self._translator.abort(failure)
        self._end(failure)
        return tail

    def close(self) -> None:
        """Note that nobody reads on."""
        if not self.ended:
            self.ended = True
            self._account.end(left=True)

    def _end(self, failure: UpstreamError | None) -> None:
        if not self.ended:
            self.ended = True
            self.failure = failure
            self._account.end(failure)
