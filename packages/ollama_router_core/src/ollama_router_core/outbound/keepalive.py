"""What keeps a connection alive while a model is loaded for a stream that has nothing to say yet.

Sources: comments in WHATWG HTML's server-sent events; Anthropic's streams, which may hold any number of `ping` events;
Ollama's clients, which parse every line: an empty one fails, and a chunk without content passes.
"""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.fleet.snapshot import ServerFacts
from ollama_router_core.fleet.traffic import inferred_model, observe_sent
from ollama_router_core.translate import ReplyIdentity, codec_of

__all__ = ["Keepalive", "keepalive_of", "waits_for_load"]


class Keepalive(Struct, frozen=True):
    """The media type of a stream and one sign of life in it."""

    content_type: bytes
    piece: bytes


def waits_for_load(request: ParsedRequest, facts: ServerFacts | None, *, now: float) -> bool:
    """Whether a streamed request has to wait on a server until its model is in memory, as far as is known.

    `now` is of the clock that the facts' times come from; of a destination without facts nothing is loaded.
    """
    model = inferred_model(request)
    if facts is None or model is None or not request.route.stream:
        return False
    return model in facts.loading or observe_sent(facts, request, now=now) is not facts


def keepalive_of(request: ParsedRequest, *, wall: float) -> Keepalive | None:
    """Return the heartbeat of a streamed request, None if it has none; `wall` is seconds since 1970."""
    if not request.route.stream:
        return None
    codec = codec_of(request.endpoint.family)
    identity = ReplyIdentity(model=request.route.model_text or "", id="", created_ns=int(wall * 1e9))
    piece = codec.heartbeat(request.endpoint.path, identity)
    return None if piece is None else Keepalive(codec.framing.media_type.encode(), piece)
