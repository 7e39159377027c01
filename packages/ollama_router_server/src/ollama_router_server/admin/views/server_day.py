"""A server's last 24 hours: when it was down, suspended or draining, and when the router was off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from ollama_router_core.errors import amount
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.incidents import span
from ollama_router_server.storage.audit_log import AuditEntry
from ollama_router_server.storage.incident_changes import IncidentKind
from ollama_router_server.storage.incident_store import Incident

__all__ = ["DAY_SECONDS", "ServerDayView", "SpanState", "SpanView", "server_day"]

DAY_SECONDS: Final = 86_400.0
SpanState = Literal["down", "suspended", "draining", "unknown"]
_STATES: Final[dict[IncidentKind, SpanState]] = {
    "server.down": "down",
    "server.suspended": "suspended",
    "router.restart": "unknown",
}
_FIRST_START: Final = "started for the first time"


class SpanView(View):
    """A period in which the server was not simply up, in seconds since 1970; `goes_on` if it lasts until now.

    `unknown`: the router was off, or did not exist yet. `cause` is the first cause, or who drained it.
    """

    state: SpanState
    begin: float
    end: float
    goes_on: bool
    cause: str


class ServerDayView(View):
    """The 24 hours until `end`; spans may overlap, oldest first."""

    sentence: str
    begin: float
    end: float
    spans: list[SpanView]


def server_day(
    incidents: Sequence[Incident], drains: Iterable[AuditEntry], now: float, *, draining: bool
) -> ServerDayView:
    """Build the view of a server's day.

    Args:
        incidents: of this server, and this router's restarts.
        drains: the server's drain and undrain entries of the audit trail, in any order.
        now: seconds since 1970.
        draining: whether it drains now.
    """
    begin = now - DAY_SECONDS
    found = [*_of_incidents(incidents, begin, now), *_of_drains(drains, begin, now, draining=draining)]
    spans = sorted((one for one in found if one.end >= begin), key=lambda one: one.begin)
    return ServerDayView(sentence=_sentence(spans), begin=begin, end=now, spans=spans)


def _of_incidents(incidents: Iterable[Incident], begin: float, now: float) -> Iterator[SpanView]:
    for one in incidents:
        state = _STATES.get(one.kind)
        if state is None:
            continue
        since, until = one.began_at, now if one.ended_at is None else one.ended_at
        if one.kind == "router.restart" and one.cause == _FIRST_START:
            since = begin
        if until > since or one.kind != "router.restart":
            yield SpanView(
                state=state, begin=max(since, begin), end=min(until, now), goes_on=one.ended_at is None, cause=one.cause
            )


def _of_drains(drains: Iterable[AuditEntry], begin: float, now: float, *, draining: bool) -> Iterator[SpanView]:
    """Yield drains. One without a start in the trail began before the day; one that the config ended is omitted.

    The config ended a drain if another starts, unless that entry says that the server was already draining.
    """
    changes = sorted(drains, key=lambda one: one.at)
    on = changes[0].action == "server.undrain" if changes else draining
    since, by = begin, "drained before, or by the config"
    for entry in changes:
        begins = entry.action == "server.drain"
        if begins and not (on and entry.detail.get("already")):
            since, by = entry.at, f"drained by {entry.actor.name}"
        elif on and not begins:
            yield SpanView(state="draining", begin=since, end=entry.at, goes_on=False, cause=by)
            since, by = entry.at, "drained by the config"
        on = begins
    if draining:
        yield SpanView(state="draining", begin=since, end=now, goes_on=True, cause=by)


def _sentence(spans: Sequence[SpanView]) -> str:
    told = [_told(state, [one for one in spans if one.state == state]) for state in ("down", "suspended", "draining")]
    parts = [one for one in told if one]
    text = ", ".join(parts).capitalize() if parts else "Nothing went wrong"
    off = sum(end - begin for begin, end in _joined(one for one in spans if one.state == "unknown"))
    return f"{text}{f'; nobody looked for {span(off)}' if off >= 1 else ''}."


def _told(state: SpanState, spans: Sequence[SpanView]) -> str:
    times = _joined(spans)
    seconds = sum(end - begin for begin, end in times)
    return f"{state} {amount(len(times), 'time')}, {span(seconds)} in all" if spans else ""


def _joined(spans: Iterable[SpanView]) -> list[tuple[float, float]]:
    """Merge overlapping spans, given oldest first; return the begin and end of each."""
    found: list[tuple[float, float]] = []
    for one in spans:
        if found and one.begin < found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], one.end)
        else:
            found.append((one.begin, one.end))
    return found
