"""What our own traffic shows about a server: loads begun and ended, models gone.

Belongs here: turning the moments of an exchange into observations.
Does not belong here: what observations mean (the core), polling (`fleet_service`).
"""

from __future__ import annotations

from functools import partial

from ollama_router_core.endpoints import Kind
from ollama_router_core.observations import (
    forget_model,
    observe_load_finished,
    observe_load_started,
    observe_unloaded,
)
from ollama_router_core.requests import ParsedRequest
from ollama_router_server.fleet_service import FleetService

__all__ = ["note_answered", "note_sent"]


def note_sent(fleet: FleetService, server: str, request: ParsedRequest) -> None:
    """A request is on its way: if its model is not in memory there, it is being loaded from now on."""
    model = request.route.model
    if model is not None and request.endpoint.kind is Kind.INFER and not request.route.unloads:
        fleet.update(server, partial(observe_load_started, name=model, now=fleet.now()))


def note_answered(fleet: FleetService, server: str, request: ParsedRequest, status: int) -> None:
    """The head of an answer came: the model is in memory, or unloaded, or not there at all."""
    route = request.route
    if route.model is None or request.endpoint.kind is not Kind.INFER:
        return
    if status == 404:
        fleet.update(server, partial(forget_model, name=route.model))
        fleet.refresh_soon(server)
    elif status == 200 and route.unloads:
        fleet.update(server, partial(observe_unloaded, name=route.model))
    elif status == 200:
        change = partial(observe_load_finished, name=route.model, num_ctx=route.num_ctx, now=fleet.now())
        if fleet.update(server, change):
            fleet.measure_soon(server)
