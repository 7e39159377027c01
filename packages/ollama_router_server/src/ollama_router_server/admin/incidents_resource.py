"""What went wrong and when: `GET /router/incidents`."""

from __future__ import annotations

from typing import get_args

from falcon.asgi import Request, Response

from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.json_bodies import answer, moment
from ollama_router_server.admin.token_access import READERS
from ollama_router_server.admin.views.incidents import IncidentsView, incidents_view
from ollama_router_server.services import Services
from ollama_router_server.storage.incident_changes import IncidentKind
from ollama_router_server.storage.incident_store import IncidentFilter

__all__ = ["IncidentsResource", "find_incidents"]


async def find_incidents(services: Services, chosen: IncidentFilter, limit: int) -> IncidentsView:
    """Find incidents, the newest first, with what each hit."""
    store = services.incidents.store
    found = await store.list(chosen, limit=limit)
    return incidents_view(found, await store.hits(found), services.clock.wall())


class IncidentsResource:
    """`GET /router/incidents[?since=SECONDS][&before=SECONDS][&kind=KIND][&server=NAME][&active=true][&limit=N]`."""

    roles = READERS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer the incidents."""
        chosen = IncidentFilter(
            since=moment(request.get_param("since")),
            before=moment(request.get_param("before"), "before"),
            kinds=_kinds(request.get_param("kind")),
            server=request.get_param("server"),
            active=request.get_param_as_bool("active"),
        )
        limit = request.get_param_as_int("limit", min_value=1, max_value=200, default=50)
        answer(response, await find_incidents(self._services, chosen, limit))


def _kinds(name: str | None) -> tuple[IncidentKind, ...] | None:
    if name is None:
        return None
    kinds: tuple[IncidentKind, ...] = get_args(IncidentKind)
    if name not in kinds:
        raise InvalidBody(f"kind must be one of {', '.join(kinds)}")
    return tuple(kind for kind in kinds if kind == name)
