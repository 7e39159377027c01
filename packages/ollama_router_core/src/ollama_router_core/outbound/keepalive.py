"""What keeps a connection alive while a stream has nothing to say: a model is loaded, a prompt read, a call written.

Sources: comments in WHATWG HTML's server-sent events; Anthropic's streams, which may hold any number of `ping` events;
Ollama's clients, which parse every line: an empty one fails, and a chunk without content passes.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.translate import QueuePlace, ReplyIdentity, codec_of

__all__ = ["Keepalive", "keepalive_of"]


class Keepalive(Struct, frozen=True):
    """The media type of a stream, signs of life in it, and what ends a line or event before which one may stand.

    `piece` returns a sign, with the place of a request that waits in the queue.
    """

    content_type: bytes
    piece: Callable[[QueuePlace | None], bytes]
    end: bytes


def keepalive_of(request: ParsedRequest, *, wall: float) -> Keepalive | None:
    """Return the heartbeat of a streamed request, None if it has none; `wall` is seconds since 1970."""
    if not request.route.stream:
        return None
    codec = codec_of(request.endpoint.family)
    identity = ReplyIdentity(model=request.route.model_text or "", id="", created_ns=int(wall * 1e9))
    path = request.endpoint.path
    if codec.heartbeat(path, identity) is None:
        return None

    def piece(place: QueuePlace | None) -> bytes:
        return codec.heartbeat(path, identity, place) or b""

    return Keepalive(codec.framing.media_type.encode(), piece, codec.framing.end)
