"""The audit trail: `GET /router/audit`."""

from __future__ import annotations

from falcon.asgi import Request

from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.query_parameters import read_moment
from ollama_router_server.admin.response_bodies import AuditBody, AuditEntryBody
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import AuditAction, AuditFilter, actions_of

__all__ = ["find_audit"]


async def find_audit(services: Services, request: Request) -> AuditBody:
    """Find changes, newest first: `[?since=SECONDS][&actor=NAME][&action=ACTION][&limit=N]`."""
    chosen = AuditFilter(
        since=read_moment(request, "since"),
        actor=request.get_param("actor"),
        actions=_actions(request.get_param("action")),
    )
    limit = request.get_param_as_int("limit", min_value=1, max_value=10_000, default=50)
    entries = await services.audit.list(chosen, limit=limit)
    return AuditBody(entries=[AuditEntryBody(**entry.to_json()) for entry in entries])


def _actions(name: str | None) -> tuple[AuditAction, ...] | None:
    if name is None:
        return None
    if not (actions := actions_of(name)):
        raise InvalidBody(f"no action is named {name[:100]!r}")
    return actions
