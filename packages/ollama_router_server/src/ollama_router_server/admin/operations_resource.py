"""Operations on models over HTTP: start, show, cancel, retry."""

from __future__ import annotations

import falcon
from falcon.asgi import Request
from pydantic import BaseModel, ConfigDict, Field

from ollama_router_core.errors import InvalidBody
from ollama_router_core.routing.model_placement import OperationKind
from ollama_router_server.admin.json_bodies import actor_of, read_body
from ollama_router_server.admin.response_bodies import CancelledBody
from ollama_router_server.admin.views.operations import OperationsView, OperationView, operation_view
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import Actor
from ollama_router_server.storage.operation_store import Operation, OperationOver

__all__ = [
    "NewOperation",
    "begin_operation",
    "cancel_operation",
    "list_operations",
    "newest_operations",
    "retry_operation",
    "show_operation",
]

_LONGEST_NAME = 512


class NewOperation(BaseModel):
    """An operation to start. `servers` is `all`, `where-it-fits`, or comma-separated names.

    The default is every server that has the model; `load` uses the best of them, `pull` of a new model where it fits.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: OperationKind
    model: str = Field(min_length=1, max_length=_LONGEST_NAME)
    servers: str | None = Field(default=None, max_length=64 * 1024)
    destination: str | None = Field(default=None, min_length=1, max_length=_LONGEST_NAME)
    context: int | None = Field(default=None, ge=1, le=2**31 - 1)


async def newest_operations(services: Services, limit: int) -> OperationsView:
    """List the newest operations."""
    found = await services.operations.store.list(limit=limit)
    return OperationsView(operations=[operation_view(one) for one in found])


async def list_operations(services: Services, request: Request) -> OperationsView:
    """List operations, newest first: `[?limit=N]`."""
    return await newest_operations(services, request.get_param_as_int("limit", min_value=1, max_value=200, default=50))


async def begin_operation(services: Services, request: Request) -> OperationView:
    """Start an operation; it runs in the background."""
    new = await read_body(request, NewOperation)
    if (new.kind == "copy") != (new.destination is not None):
        raise InvalidBody("destination: a copy needs one, and nothing else has any")
    return await _begin(services, actor_of(request), new)


async def show_operation(services: Services, _request: Request, id: str) -> OperationView:  # noqa: A002 - the route's name
    """Show one operation."""
    return operation_view(await _find(services, id))


async def cancel_operation(services: Services, request: Request, id: str) -> CancelledBody:  # noqa: A002
    """Cancel an operation: completed servers stay as they are, connections are closed."""
    found = await _find(services, id)
    if found.finished_at is not None:
        raise OperationOver("the operation is over")
    await services.operations.cancel(id)
    await services.audit.record(actor_of(request), "operation.cancel", found.model, operation=id)
    return CancelledBody(id=id, cancelled=True)


async def retry_operation(services: Services, request: Request, id: str) -> OperationView:  # noqa: A002
    """Start a new operation on the servers where this one failed or was cancelled."""
    found = await _find(services, id)
    left = [one.server for one in found.targets if one.state in {"failed", "cancelled"}]
    if found.finished_at is None or not left:
        raise OperationOver("the operation is not over, or is done everywhere")
    again = NewOperation(
        kind=found.kind, model=found.model, servers=",".join(left), destination=found.destination, context=found.context
    )
    return await _begin(services, actor_of(request), again)


async def _begin(services: Services, actor: Actor, new: NewOperation) -> OperationView:
    begun = await services.operations.begin(
        new.kind, new.model, actor=actor.name, servers=new.servers, destination=new.destination, context=new.context
    )
    servers = [one.server for one in begun.targets]
    await services.audit.record(actor, "operation.begin", new.model, operation=begun.id, kind=new.kind, servers=servers)
    return operation_view(begun)


async def _find(services: Services, operation_id: str) -> Operation:
    found = await services.operations.store.find(operation_id[:28])
    if found is None:
        raise falcon.HTTPNotFound(
            title="no such operation", description="no operation has this id; operations are kept for seven days"
        )
    return found
