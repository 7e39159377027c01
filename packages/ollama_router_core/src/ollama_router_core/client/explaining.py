"""Routing decisions without sending a request."""

from __future__ import annotations

import json
from collections.abc import Iterable

from msgspec.structs import replace

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.requests import parse_request
from ollama_router_core.client.transport_state import State
from ollama_router_core.errors import ModelNotFound
from ollama_router_core.exchange.actions import LookForModels, Steps
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.policy import apply_policy, fallback_for

__all__ = ["explain"]


def explain(state: State, model: str, context: int | None, needs: Iterable[str]) -> Steps[Decision]:
    """Decide where to send a chat with a model, without queueing or taking a slot."""
    body = json.dumps({"model": model, **({} if context is None else {"options": {"num_ctx": context}})}).encode()
    request = apply_policy(parse_request(match_endpoint("POST", "/api/chat"), body), state.config.models).request
    request = replace(request, route=replace(request.route, needs=frozenset(needs)))
    decision = state.admission.view.decide(request.route)
    if isinstance(decision.error, ModelNotFound) and (yield LookForModels()):
        decision = state.admission.view.decide(request.route)
    name = None if request.route.model is None else fallback_for(request.route.model, state.config.models)
    if decision.error is None or name is None:
        return decision
    instead = state.admission.view.decide(request.with_model(name).route)
    return decision if instead.error is not None else instead
