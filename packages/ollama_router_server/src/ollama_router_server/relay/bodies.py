"""Request bodies: read whole up to a limit, decompressed up to a cap, or streamed.

Ollama decodes zstd on its compatible routes. The router decodes the same bodies, so that it checks what the server
reads.
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
    from ollama_router_core.exchange.context import RequestContext
    from ollama_router_server.relay.collaborators import Collaborators

__all__ = ["IncomingBody", "Message", "Receive", "Send", "body_pieces", "decoded"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LONGEST_DECODED = 20 * 1024 * 1024  # Ollama's own cap
_WINDOW_LOG = 23  # 8 MiB: RFC 8878 recommends that every decoder supports it
_SLICE = 64 * 1024
"""Compressed bytes per decoder call; bounds the copy of the bytes that follow a frame."""
_MOST_FRAMES = 64
"""Frames per body; a client library writes one, a streaming client a few."""


async def body_pieces(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the request body as it arrives, without a size limit.

    Raises:
        ClientLeft: the client disconnected before the body was complete; discard what arrived.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        more = message.get("more_body", False)
        if piece := message.get("body", b""):
            yield piece


class IncomingBody:
    """The body of one request while it arrives; its bytes count against its user's bound on unfinished bodies.

    Args:
        context: the request's context.
        asked: the size limit, and whether the body is compressed.
        collaborators: hold the count of unfinished bytes, and its bound.
    """

    __slots__ = ("_asked", "_collaborators", "_context", "_counted", "_pieces", "_user")

    def __init__(self, context: RequestContext, asked: ReadBody, collaborators: Collaborators) -> None:
        self._context = context
        self._asked = asked
        self._collaborators = collaborators
        self._user = None if context.user is None else context.user.name
        self._counted = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes, *, more: bool) -> None:
        """Append a piece; `more` is False for the last one.

        Raises:
            BodyTooLarge: the body exceeds its limit.
            Overloaded: the user's unfinished bodies exceed their bound.
        """
        self._context.bytes_in += len(piece)
        if self._context.bytes_in > self._asked.limit:
            raise BodyTooLarge(f"the body is larger than the limit of {self._asked.limit} bytes")
        if more and self._user is not None and piece:
            collaborators = self._collaborators
            collaborators.unfinished.take(self._user, len(piece), max_body=collaborators.environment.max_body)
            self._counted += len(piece)
        self._pieces.append(piece)

    def whole(self) -> bytes:
        """Return the complete body, decompressed.

        Raises:
            BodyTooLarge, InvalidBody: see `decoded`.
        """
        if self._counted:
            self.close()
        pieces, self._pieces = self._pieces, []  # drop the reference: a large body is in memory once
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return decoded(body, self._asked) if self._asked.compressed else body

    def close(self) -> None:
        """Stop counting the bytes: the body is complete, or its request has ended."""
        counted, self._counted = self._counted, 0
        if counted and self._user is not None:
            self._collaborators.unfinished.give_back(self._user, counted)


def decoded(body: bytes, asked: ReadBody) -> bytes:
    """Return the decompressed content of a zstd body; it may have several frames.

    Raises:
        BodyTooLarge: the content exceeds `asked.limit` or 20 MiB, or a window exceeds 8 MiB.
        InvalidBody: the body is not zstd, is truncated, or has more than 64 frames.
    """
    frames = _Frames(min(asked.limit, _LONGEST_DECODED))
    for start in range(0, len(body), _SLICE):
        frames.feed(body[start : start + _SLICE])
    return frames.end()


class _Frames:
    """Decompress zstd frames slice by slice, to at most `limit` bytes."""

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
