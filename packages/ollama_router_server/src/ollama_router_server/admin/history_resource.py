"""The events of a day: `GET /router/history`."""

from __future__ import annotations

import asyncio

from falcon.asgi import Request

from ollama_router_server.admin.incidents_resource import find_incidents
from ollama_router_server.admin.json_bodies import user_of
from ollama_router_server.admin.query_parameters import read_day
from ollama_router_server.admin.response_bodies import AuditEntryBody
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.admin.views.history import HistoryView, history_view
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import AuditFilter
from ollama_router_server.storage.incident_store import IncidentFilter
from ollama_router_server.storage.log_totals import DAY

__all__ = ["find_day"]

_MOST_CHANGES = 500
_MOST_INCIDENTS = 200


async def find_day(services: Services, request: Request) -> HistoryView:
    """Return the events of the day in the query, by default today.

    Raises:
        InvalidBody: it is not a day.
    """
    day, begin = read_day(request, services.clock.wall())
    changes: list[AuditEntryBody] = []
    if user_of(request).role in ADMINS:
        entries = await services.audit.list(AuditFilter(since=begin, before=begin + DAY), limit=_MOST_CHANGES)
        changes = [AuditEntryBody(**entry.to_json()) for entry in entries]
    groups = await services.request_log.day(begin)
    found = await find_incidents(services, IncidentFilter(since=begin, before=begin + DAY), _MOST_INCIDENTS)
    return await asyncio.to_thread(history_view, day, begin, groups, changes, found.incidents)
