"""The overview of the fleet, its servers and models over HTTP."""

from __future__ import annotations

from typing import TypeVar, get_args

import falcon
from falcon.asgi import Request
from msgspec.structs import replace

from ollama_router_core.access.grants import may_use_model
from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.admin.json_bodies import user_of
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.admin.views.models import ModelDetailView, ModelsView, model_detail, model_views, with_use
from ollama_router_server.admin.views.overview import OverviewView, dated, overview
from ollama_router_server.admin.views.server_day import DAY_SECONDS, ServerDayView, server_day
from ollama_router_server.admin.views.servers import (
    ServerDetailView,
    ServersView,
    ServerView,
    check_server,
    server_detail,
    server_views,
)
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import AuditFilter
from ollama_router_server.storage.incident_changes import IncidentKind
from ollama_router_server.storage.incident_store import IncidentFilter

__all__ = ["find_model", "find_models", "find_overview", "find_server", "find_server_day", "find_servers"]

Shown = TypeVar("Shown", bound=ServerView)
_MOST_INCIDENTS = 500
_USE_SECONDS = 7 * 86_400.0
_NOT_OF_MODELS: tuple[IncidentKind, ...] = tuple(kind for kind in get_args(IncidentKind) if kind != "model.suspended")
_OFF: tuple[IncidentKind, ...] = ("server.down", "server.suspended")


async def find_overview(services: Services, _request: Request) -> OverviewView:
    """Return the router's state now; query the database for the start of problems only if there are any."""
    sync = services.worker_news.joined
    view = overview(services, sync.active_requests(), sync.last_hour(), sync.workers)
    if not view.attention:
        return view
    chosen = IncidentFilter(active=True, kinds=_NOT_OF_MODELS, origin=services.incidents.writer.origin)
    try:
        found = await services.incidents.store.list(chosen, limit=_MOST_INCIDENTS)
    except StorageUnavailable:
        return view  # the view reports that the database is unavailable
    return dated(view, found)


async def find_servers(services: Services, _request: Request) -> ServersView:
    """Return all servers; the start of down and suspended states comes from incidents, which survive restarts."""
    return ServersView(servers=await _dated(services, server_views(services).servers))


async def _dated(services: Services, shown: list[Shown], server: str | None = None) -> list[Shown]:
    """Set `since` of down and suspended servers from incidents, for all servers or for the one named `server`."""
    if not any(one.state in {"down", "suspended"} for one in shown):
        return shown
    chosen = IncidentFilter(active=True, kinds=_OFF, server=server, origin=services.incidents.writer.origin)
    try:
        found = await services.incidents.store.list(chosen, limit=_MOST_INCIDENTS)
    except StorageUnavailable:
        return shown
    began: dict[tuple[str | None, str], float] = {(one.server, one.kind): one.began_at for one in found}
    return [
        one.model_copy(update={"since": began.get((one.name, f"server.{one.state}")) or one.since}) for one in shown
    ]


async def find_server(services: Services, request: Request, name: str) -> ServerDetailView:
    """Return one server; only admins see its address. `since` comes from incidents, as in the list.

    Raises:
        HTTPNotFound: the config has no such server.
    """
    detail = server_detail(services, name, address=user_of(request).role in ADMINS)
    (dated_detail,) = await _dated(services, [detail], name)
    return dated_detail


async def find_server_day(services: Services, request: Request, name: str) -> ServerDayView:
    """Return a server's last 24 hours, from its incidents, the router's restarts and drains in the audit trail.

    Only admins see who drained it.

    Raises:
        HTTPNotFound: the config has no such server.
        StorageUnavailable: the database cannot answer.
    """
    check_server(services, name)
    now, store = services.clock.wall(), services.incidents.store
    since = now - DAY_SECONDS
    ours = IncidentFilter(since=since, kinds=("router.restart",), origin=services.incidents.writer.origin)
    restarts = await store.list(ours, limit=_MOST_INCIDENTS)
    own = await store.list(replace(ours, kinds=_OFF, server=name), limit=_MOST_INCIDENTS)
    chosen = AuditFilter(since=since, actions=("server.drain", "server.undrain"), subject=name)
    drains = list(await services.audit.list(chosen, limit=_MOST_INCIDENTS))
    if user_of(request).role not in ADMINS:
        drains = [replace(one, actor=replace(one.actor, name="an admin")) for one in drains]
    return server_day([*own, *restarts], drains, now, draining=name in services.fleet.health.draining)


async def find_models(services: Services, request: Request) -> ModelsView:
    """Return the models that this user may use; admins and viewers also see the use of the last seven days."""
    user = user_of(request)
    if user.role == "user":
        return model_views(services, user.grants)
    view, now = model_views(services, None), services.clock.wall()
    try:
        use = await services.request_log.use_of_models(since=now - _USE_SECONDS, before=now)
    except StorageUnavailable:
        return view
    return with_use(view, use)


def find_model(services: Services, request: Request, name: str) -> ModelDetailView:
    """Return one model, if this user may use it.

    Raises:
        HTTPNotFound: no server has it, or the user may not use it; both get the same response.
    """
    user = user_of(request)
    try:
        found = model_detail(services, name)
    except KeyError:
        found = None
    if found is None or (user.role == "user" and not may_use_model(user.grants, found.name)):
        raise falcon.HTTPNotFound(title="no such model", description=f"no server has a model {name[:128]!r}")
    return found
