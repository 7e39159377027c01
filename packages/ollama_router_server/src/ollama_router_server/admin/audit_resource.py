"""The audit trail: `GET /router/audit`."""

from __future__ import annotations

from falcon.asgi import Request, Response

from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.json_bodies import answer, moment
from ollama_router_server.admin.response_bodies import AuditBody, AuditEntryBody
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import AuditAction, AuditFilter, actions_of

__all__ = ["AuditResource"]


class AuditResource:
    """`GET /router/audit[?since=SECONDS][&actor=NAME][&action=ACTION][&limit=N]`: changes, newest first."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._audit = services.audit

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer the entries."""
        chosen = AuditFilter(
            since=moment(request.get_param("since")),
            actor=request.get_param("actor"),
            actions=_actions(request.get_param("action")),
        )
        limit = request.get_param_as_int("limit", min_value=1, max_value=10_000, default=50)
        entries = await self._audit.list(chosen, limit=limit)
        answer(response, AuditBody(entries=[AuditEntryBody(**entry.to_json()) for entry in entries]))


def _actions(name: str | None) -> tuple[AuditAction, ...] | None:
    if name is None:
        return None
    if not (actions := actions_of(name)):
        raise InvalidBody(f"no action is named {name[:100]!r}")
    return actions
