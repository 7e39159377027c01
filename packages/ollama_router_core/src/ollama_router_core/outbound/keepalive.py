"""Heartbeats that keep a connection alive while a stream is silent: during a load, prefill or a tool call.

Sources: comments in WHATWG HTML's server-sent events; Anthropic's streams, which may contain any number of `ping`
events; Ollama's clients, which parse every line: an empty line fails, a chunk without content is accepted.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.translate import QueuePlace, ReplyIdentity, codec_of

__all__ = ["Keepalive", "keepalive_of"]


class Keepalive(Struct, frozen=True):
    """The media type of a stream, its heartbeats, and the delimiter after which a heartbeat may be inserted.

    `piece` returns a heartbeat, with the queue place of a waiting request.
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
    if codec.heartbeat(path, identity, None) is None:
        return None

    def piece(place: QueuePlace | None) -> bytes:
        return codec.heartbeat(path, identity, place) or b""

    return Keepalive(codec.framing.media_type.encode(), piece, codec.framing.end)
