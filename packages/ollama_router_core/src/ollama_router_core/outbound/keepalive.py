"""What keeps a connection alive while a model is loaded for a stream that has nothing to say yet.

Sources: comments in WHATWG HTML's server-sent events; Anthropic's streams, which may hold any number of `ping` events;
Ollama's clients, which parse every line: an empty one fails, and a chunk without content passes.
"""

from __future__ import annotations

import json

from msgspec import Struct

from ollama_router_core.api.endpoints import Family
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.fleet.snapshot import ServerFacts
from ollama_router_core.fleet.traffic import inferred_model, observe_sent
from ollama_router_core.translate import rfc3339

__all__ = ["Keepalive", "keepalive_of", "waits_for_load"]

_SIGNS = {Family.OPENAI: b": keepalive\n\n", Family.ANTHROPIC: b'event: ping\ndata: {"type": "ping"}\n\n'}
_EMPTY: dict[str, dict[str, object]] = {
    "chat": {"message": {"role": "assistant", "content": ""}},
    "generate": {"response": ""},
}


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
    """A sign of life for a streamed request, None where there is none; `wall` is seconds since 1970."""
    if not request.route.stream:
        return None
    sign = _SIGNS.get(request.endpoint.family)
    if sign is not None:
        return Keepalive(b"text/event-stream", sign)
    empty = _EMPTY.get(request.endpoint.name)
    if empty is None:
        return None
    head: dict[str, object] = {"model": request.route.model_text, "created_at": rfc3339(int(wall * 1e9))}
    line = {**head, **empty, "done": False}
    return Keepalive(b"application/x-ndjson", json.dumps(line, separators=(",", ":")).encode() + b"\n")
