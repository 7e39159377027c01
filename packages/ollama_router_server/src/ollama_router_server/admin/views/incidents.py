"""Incidents, each with a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ollama_router_core.errors import amount
from ollama_router_server.admin.view import View
from ollama_router_server.storage.incident_changes import IncidentKind
from ollama_router_server.storage.incident_hits import Hit
from ollama_router_server.storage.incident_store import Incident

__all__ = ["IncidentView", "IncidentsView", "incidents_view", "span"]


_TEXTS: Final[Mapping[IncidentKind, tuple[str, str]]] = {
    "server.down": ("{server} was down for {span}", "{server} is down now for {span}"),
    "server.suspended": ("{server} got no requests for {span}", "{server} gets no requests now for {span}"),
    "model.suspended": (
        "{server} could not serve {model} for {span}",
        "{server} could not serve {model} when last asked, first {span} ago",
    ),
    "config.refused": ("A changed config was refused for {span}", "A changed config is refused now for {span}"),
    "coordination.away": (
        "Other routers could not be reached for {span}",
        "Other routers cannot be reached now for {span}",
    ),
    "line.full": ("The queue was full for {span}", "The queue is full, first {span} ago"),
    "requests.refused": ("Many requests were refused for {span}", "Many requests are refused, first {span} ago"),
    "log.lost": ("Rows of the request log were lost for {span}", "Rows of the request log are lost, first {span} ago"),
    "versions.differ": (
        "Servers had different versions of Ollama for {span}",
        "Servers have different versions of Ollama, first {span} ago",
    ),
    "digests.differ": (
        "Servers held different weights under one name for {span}",
        "Servers hold different weights under one name, first {span} ago",
    ),
    "database.away": ("The database accepted no rows for {span}", "The database accepts no rows now for {span}"),
}
"""The sentences for a past and for an active incident."""


class IncidentView(View):
    """An incident, from `began_at` to `ended_at`; null while it is active.

    `router` reported it. `server` and `model` are null if it concerns none. `cause` is the first reported cause.
    `failed_requests` failed at that server, for that model, in the incident's first hour; `users` counts their users.
    For a full queue and for many refusals they are the refused requests that have rows. Both are null for kinds that
    affect no requests directly, and beyond the newest fifty in a response that do.
    """

    id: int
    kind: IncidentKind
    router: str
    server: str | None
    model: str | None
    began_at: float
    ended_at: float | None
    seconds: float
    cause: str
    sentence: str
    failed_requests: int | None
    users: int | None


class IncidentsView(View):
    """Incidents, newest first, with the number of active ones."""

    sentence: str
    incidents: list[IncidentView]


def incidents_view(incidents: Sequence[Incident], hits: Mapping[int, Hit], now: float) -> IncidentsView:
    """Build the view of incidents, with a sentence."""
    active = sum(one.ended_at is None for one in incidents)
    told = f"{amount(len(incidents), 'incident')}, {active or 'none'} active." if incidents else "No incidents."
    return IncidentsView(sentence=told, incidents=[_view(one, hits.get(one.id), now) for one in incidents])


def _view(one: Incident, hit: Hit | None, now: float) -> IncidentView:
    seconds = max(0.0, (now if one.ended_at is None else one.ended_at) - one.began_at)
    return IncidentView.from_object(
        one,
        server=one.server or None,
        model=one.model or None,
        seconds=round(seconds, 1),
        sentence=_sentence(one, seconds),
        failed_requests=None if hit is None else hit.requests,
        users=None if hit is None else hit.users,
    )


def _sentence(one: Incident, seconds: float) -> str:
    if one.kind == "router.restart":
        return f"{one.router}: {one.cause}{f', off for {span(seconds)}' if seconds else ''}"
    was, still = _TEXTS[one.kind]
    told = still if one.ended_at is None else was
    return f"{told.format(server=one.server, model=one.model, span=span(seconds))}: {one.cause}"


def span(seconds: float) -> str:
    """Format a duration in its most suitable unit."""
    for least, size, unit in ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "min")):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
