"""Request bodies: read whole under a limit, decompressed under a cap, or passed on piece by piece.

Ollama decodes zstd on its compatible routes; what it would decode has to be decoded here, or the check would look at
something else than the server does.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from ollama_router_core.errors import BodyTooLarge, InvalidBody
from ollama_router_core.exchange.events import ClientLeft

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from ollama_router_core.exchange.actions import ReadBody

__all__ = ["Message", "Receive", "Send", "body_pieces", "check_size", "decoded"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LONGEST_DECODED = 20 * 1024 * 1024  # Ollama's own cap
_WINDOW_LOG = 23  # 8 MiB: what RFC 8878 asks every decoder to support
_SLICE = 64 * 1024
"""Compressed bytes that a decoder gets at a time: what follows a frame is copied, and is never more than this."""
_MOST_FRAMES = 64
"""Frames of one body; a client's library writes one, a client that streams a few."""


async def body_pieces(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the request body as it comes, however long.

    Raises:
        ClientLeft: the client left before the body was complete; what came is worth nothing.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        more = message.get("more_body", False)
        if piece := message.get("body", b""):
            yield piece


def check_size(size: int, asked: ReadBody) -> None:
    """Let a body pass that is no longer than asked for.

    Raises:
        BodyTooLarge: it is.
    """
    if size > asked.limit:
        raise BodyTooLarge(f"the body is larger than the limit of {asked.limit} bytes")


def decoded(body: bytes, asked: ReadBody) -> bytes:
    """Return the body as a server would read it: what a zstd body holds, frame after frame.

    Raises:
        BodyTooLarge: more than `asked.limit` bytes, or 20 MiB, or a window of more than 8 MiB.
        InvalidBody: not zstd, cut off, or of more than 64 frames.
    """
    if not asked.compressed:
        return body
    frames = _Frames(min(asked.limit, _LONGEST_DECODED))
    for start in range(0, len(body), _SLICE):
        frames.feed(body[start : start + _SLICE])
    return frames.end()


class _Frames:
    """Decompresses zstd frames that come in slices, to at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit
        self._decoder: zstd.ZstdDecompressor | None = None
        self._begun = 0
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        while data:
            decoder = self._decoder = self._decoder or self._next_frame()
            try:
                piece = decoder.decompress(data, max_length=self._left + 1)
            except zstd.ZstdError:
                raise InvalidBody("failed to decompress zstd body") from None
            self._left -= len(piece)
            if self._left < 0:
                raise BodyTooLarge(f"the decompressed body is larger than the limit of {self._limit} bytes")
            self._pieces.append(piece)
            data = decoder.unused_data
            if decoder.eof:
                self._decoder = None

    def end(self) -> bytes:
        if self._decoder is not None:
            raise InvalidBody("failed to decompress zstd body: it is cut off")
        return b"".join(self._pieces)

    def _next_frame(self) -> zstd.ZstdDecompressor:
        self._begun += 1
        if self._begun > _MOST_FRAMES:
            raise InvalidBody(f"the zstd body has more than {_MOST_FRAMES} frames")
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
