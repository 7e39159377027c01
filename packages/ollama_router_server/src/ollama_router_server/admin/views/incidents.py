"""What went wrong and when, each with its sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from ollama_router_core.errors import amount
from ollama_router_server.admin.views.view import View
from ollama_router_server.storage.incidents import Hit, Incident, IncidentKind

__all__ = ["IncidentView", "IncidentsView", "incident_views", "incidents_view"]


class IncidentView(View):
    """An incident, from `began_at` to `ended_at`; null while it is under way.

    `router` is the one that saw it. `server` and `model` are null where it is about none. `cause` is the first one, as
    it was told. `failed_requests` failed at that server, for that model, in the incident's first hour, and are of
    `users` different people; null where it is about no server.
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
    """Incidents, newest first, and how many of them are under way."""

    sentence: str
    incidents: list[IncidentView]


def incident_views(incidents: Sequence[Incident], hits: Mapping[int, Hit], now: float) -> list[IncidentView]:
    """Each incident with what it hit."""
    return [_view(one, hits.get(one.id), now) for one in incidents]


def incidents_view(incidents: Sequence[Incident], hits: Mapping[int, Hit], now: float) -> IncidentsView:
    """Some incidents, with a sentence."""
    under_way = sum(one.ended_at is None for one in incidents)
    told = f"{amount(len(incidents), 'incident')}, {under_way or 'none'} under way." if incidents else "No incidents."
    return IncidentsView(sentence=told, incidents=incident_views(incidents, hits, now))


def _view(one: Incident, hit: Hit | None, now: float) -> IncidentView:
    seconds = max(0.0, (now if one.ended_at is None else one.ended_at) - one.began_at)
    return IncidentView(
        id=one.id,
        kind=one.kind,
        router=one.router,
        server=one.server or None,
        model=one.model or None,
        began_at=one.began_at,
        ended_at=one.ended_at,
        seconds=round(seconds, 1),
        cause=one.cause,
        sentence=_sentence(one, seconds),
        failed_requests=None if hit is None else hit.requests,
        users=None if hit is None else hit.users,
    )


def _sentence(one: Incident, seconds: float) -> str:
    over = one.ended_at is not None
    span = f"{'for' if over else 'now for'} {_span(seconds)}"
    match one.kind:
        case "server.down":
            return f"{one.server} {'was' if over else 'is'} down {span}: {one.cause}"
        case "server.suspended":
            return f"{one.server} {'got' if over else 'gets'} no requests {span}: {one.cause}"
        case "model.suspended":
            return f"{one.server} {'was' if over else 'is'} not asked for {one.model} {span}: {one.cause}"
        case "config.refused":
            return f"A changed config {'was' if over else 'is'} refused {span}: {one.cause}"
        case "coordination.away":
            return f"Other routers {'could not' if over else 'cannot'} be asked {span}: {one.cause}"
        case "router.restart":
            return f"{one.router}: {one.cause}{f', off {span}' if seconds else ''}"
        case _:
            assert_never(one.kind)


def _span(seconds: float) -> str:
    """As long as something took, in the one unit that suits it."""
    for least, size, unit in ((172_800, 86_400, "d"), (7_200, 3_600, "h"), (120, 60, "min")):
        if seconds >= least:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
