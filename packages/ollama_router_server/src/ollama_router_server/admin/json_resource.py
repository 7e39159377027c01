"""Operations as Falcon resources: handlers of the methods of a path, in JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any

from falcon.asgi import Request, Response
from pydantic import BaseModel

from ollama_router_core.fleet.snapshot import EMPTY
from ollama_router_server.admin.json_bodies import answer
from ollama_router_server.admin.operation_row import Handler, Operation
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import Role

__all__ = ["JsonResource", "json_resources"]


def json_resources(
    services: Services, operations: Iterable[Operation], own: Mapping[str, Handler] = EMPTY
) -> dict[str, JsonResource]:
    """Make a resource per path; `own` has handlers for operations without one. Paths without handlers are omitted."""
    found: dict[str, JsonResource] = {}
    for one in operations:
        handler = one.handler or own.get(one.path)
        if handler is not None:
            resource = found.setdefault(one.path, JsonResource(one.roles))
            setattr(resource, f"on_{one.method}", _responder(services, handler, one.status))
    return found


class JsonResource:
    """One path; all its operations require the same `roles`."""

    def __init__(self, roles: frozenset[Role]) -> None:
        self.roles = roles


def _responder(services: Services, handler: Handler, status: int) -> Callable[..., Coroutine[Any, Any, None]]:
    async def respond(request: Request, response: Response, **names: str) -> None:
        found = handler(services, request, **names)
        if isinstance(found, Awaitable):
            found = await found
        if isinstance(found, BaseModel):
            answer(response, found, status=status)
        else:
            response.media = found

    return respond
