"""What a program's own traffic shows about a server: loads begun and ended, models gone.

Belongs here: the moments of an exchange as observations, for server and client alike.
Does not belong here: what observations mean (`observations`), who keeps them.
"""

from __future__ import annotations

from ollama_router_core.endpoints import Kind
from ollama_router_core.fleet import ServerFacts
from ollama_router_core.observations import (
    forget_model,
    observe_load_finished,
    observe_load_started,
    observe_unloaded,
)
from ollama_router_core.requests import ParsedRequest

__all__ = ["observe_answered", "observe_sent"]


def observe_sent(facts: ServerFacts, request: ParsedRequest, *, now: float) -> ServerFacts:
    """A request is on its way: if its model is not in memory there, it is being loaded from now on."""
    model = request.route.model
    if model is None or request.endpoint.kind is not Kind.INFER or request.route.unloads:
        return facts
    return observe_load_started(facts, model, now=now)


def observe_answered(facts: ServerFacts, request: ParsedRequest, status: int, *, now: float) -> ServerFacts:
    """The head of an answer came: the model is in memory, or unloaded, or not there at all."""
    model = request.route.model
    if model is None or request.endpoint.kind is not Kind.INFER:
        return facts
    if status == 404:
        return forget_model(facts, model)
    if status != 200:
        return facts
    if request.route.unloads:
        return observe_unloaded(facts, model)
    return observe_load_finished(facts, model, num_ctx=request.route.num_ctx, now=now)
