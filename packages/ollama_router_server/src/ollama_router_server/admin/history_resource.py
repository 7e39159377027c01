"""The events of a day: `GET /router/history`."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime

from falcon.asgi import Request

from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.incidents_resource import find_incidents
from ollama_router_server.admin.json_bodies import user_of
from ollama_router_server.admin.response_bodies import AuditEntryBody
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.admin.views.history import HistoryView, history_view
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import AuditFilter
from ollama_router_server.storage.incident_store import IncidentFilter
from ollama_router_server.storage.log_totals import DAY

__all__ = ["asked_day", "find_day"]

_MOST_CHANGES = 500
_MOST_INCIDENTS = 200


async def find_day(services: Services, request: Request) -> HistoryView:
    """Return the events of the day in the query, by default today.

    Raises:
        InvalidBody: it is not a day.
    """
    day, begin = asked_day(request, services.clock.wall())
    changes: list[AuditEntryBody] = []
    if user_of(request).role in ADMINS:
        found = await services.audit.list(AuditFilter(since=begin, before=begin + DAY), limit=_MOST_CHANGES)
        changes = [AuditEntryBody(**entry.to_json()) for entry in found]
    groups = await services.request_log.day(begin)
    told = await find_incidents(services, IncidentFilter(since=begin, before=begin + DAY), _MOST_INCIDENTS)
    return await asyncio.to_thread(history_view, day, begin, groups, changes, told.incidents)


def asked_day(request: Request, wall: float, name: str = "day") -> tuple[str, int]:
    """Parse the day in the query, by default today; return it with its start (UTC, seconds since 1970).

    Raises:
        InvalidBody: it is not a day.
    """
    day = _day(request.get_param(name) or None, wall, name)
    return day.isoformat(), int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def _day(text: str | None, wall: float, name: str) -> date:
    if text is None:
        return datetime.fromtimestamp(wall, UTC).date()
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise InvalidBody(f"{name} must look like 2026-11-28") from None
    if day.year < 1970:
        raise InvalidBody(f"{name} must not be before 1970")
    return day
