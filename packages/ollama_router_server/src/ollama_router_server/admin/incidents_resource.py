"""Incidents: `GET /router/incidents`."""

from __future__ import annotations

from typing import get_args

from falcon.asgi import Request

from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.query_parameters import read_moment
from ollama_router_server.admin.views.incidents import IncidentsView, incidents_view
from ollama_router_server.services import Services
from ollama_router_server.storage.incident_changes import IncidentKind
from ollama_router_server.storage.incident_store import IncidentFilter

__all__ = ["find_incidents", "list_incidents"]


async def find_incidents(services: Services, chosen: IncidentFilter, limit: int) -> IncidentsView:
    """Find incidents, newest first, with the requests that each affected."""
    store = services.incidents.store
    found = await store.list(chosen, limit=limit)
    return incidents_view(found, await store.hits(found), services.clock.wall())


async def list_incidents(services: Services, request: Request) -> IncidentsView:
    """List incidents: `[?since=SECONDS][&before=SECONDS][&kind=KIND][&server=NAME][&active=true][&limit=N]`."""
    chosen = IncidentFilter(
        since=read_moment(request, "since"),
        before=read_moment(request, "before"),
        kinds=_kinds(request.get_param("kind")),
        server=request.get_param("server"),
        active=request.get_param_as_bool("active"),
    )
    limit = request.get_param_as_int("limit", min_value=1, max_value=200, default=50)
    return await find_incidents(services, chosen, limit)


def _kinds(name: str | None) -> tuple[IncidentKind, ...] | None:
    if name is None:
        return None
    kinds: tuple[IncidentKind, ...] = get_args(IncidentKind)
    if name not in kinds:
        raise InvalidBody(f"kind must be one of {', '.join(kinds)}")
    return tuple(kind for kind in kinds if kind == name)
