"""The overview of the router: one sentence, what needs attention, what runs and what waits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Literal

from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.errors import amount
from ollama_router_core.records.phases import PhaseName
from ollama_router_core.responses.several_servers import names_of
from ollama_router_core.routing.model_placement import differing_digests
from ollama_router_server.admin.view import GIB, View
from ollama_router_server.admin.views.active import ActiveView, active_views
from ollama_router_server.admin.views.requests import seconds
from ollama_router_server.admin.views.servers import ServerView, server_views
from ollama_router_server.services import Services
from ollama_router_server.storage.incident_store import Incident
from ollama_router_server.telemetry.last_hour import Minute
from ollama_router_server.telemetry.time_bands import percentile_ms

__all__ = [
    "AttentionView",
    "LastHourView",
    "MinuteView",
    "OverviewView",
    "attention",
    "dated",
    "last_hour_view",
    "overview",
    "sentence",
]

_MOST = 5
_MOST_VERSIONS = 4
_FAR = 0.2

AttentionKind = Literal[
    "config.refused",
    "coordination.away",
    "database.away",
    "digests.differ",
    "discovery.failed",
    "line.full",
    "log.lost",
    "memory.differs",
    "requests.refused",
    "versions.differ",
    "server.down",
    "server.suspended",
    "server.unknown",
    "server.draining",
]
"""Kinds that are also incidents have the incident's name."""


class AttentionView(View):
    """A problem that needs attention, and its fix.

    `kind` is stable, `server` the affected server. `since` (seconds since 1970) is the start of its incident, if there
    is one.
    """

    severity: Literal["bad", "warn"]
    kind: AttentionKind
    server: str | None = None
    since: float | None = None
    what: str
    fix: str


class MinuteView(View):
    """The requests that ended in the minute from `start` (seconds since 1970), in all workers.

    `failed` excludes requests whose client disconnected. `phases` are the requests' milliseconds by phase.
    """

    start: int
    requests: int
    failed: int
    completion_tokens: int
    phases: dict[PhaseName, int]


class LastHourView(View):
    """The last sixty minutes, the current one last, with a sentence."""

    sentence: str
    minutes: list[MinuteView]


class OverviewView(View):
    """The router now. `attention` has at most five entries, the worst first; `more` counts the others.

    `heard` of `workers` have reported; requests of the others are missing, or as last reported.
    """

    sentence: str
    workers: int
    heard: int
    servers: list[ServerView]
    attention: list[AttentionView]
    more: int
    running: list[ActiveView]
    waiting: list[ActiveView]
    waiting_count: int
    last_hour: LastHourView


def overview(
    services: Services, active_requests: Sequence[dict[str, Any]], minutes: Sequence[Minute], workers: tuple[int, int]
) -> OverviewView:
    """Build the view of the router now.

    Args:
        services: this process's services.
        active_requests: the requests in flight in all workers.
        minutes: the last hour's minutes of all workers.
        workers: how many workers were heard from, and how many there are.
    """
    active = active_views(services, active_requests)
    waiting = [one for one in active if one.state == "waiting"]
    running = [one for one in active if one.state != "waiting"]
    servers, count = server_views(services).servers, services.worker_news.figures()["waiting"]
    found = list(attention(services, servers))
    return OverviewView(
        sentence=sentence(servers, len(running), max(count, len(waiting)), waiting, _first_token_ms(minutes)),
        workers=workers[1],
        heard=workers[0],
        servers=servers,
        attention=found[:_MOST],
        more=max(0, len(found) - _MOST),
        running=running,
        waiting=waiting,
        waiting_count=max(count, len(waiting)),
        last_hour=last_hour_view(minutes),
    )


def dated(view: OverviewView, incidents: Iterable[Incident]) -> OverviewView:
    """Add the start of each problem from the active incidents."""
    began: dict[tuple[str, str | None], float] = {
        (one.kind, one.server or None): one.began_at for one in incidents if not one.model
    }
    found = [one.model_copy(update={"since": began.get((one.kind, one.server))}) for one in view.attention]
    return view.model_copy(update={"attention": found})


def last_hour_view(minutes: Sequence[Minute]) -> LastHourView:
    """Sum up the last hour."""
    requests, failed = sum(one.requests for one in minutes), sum(one.failed for one in minutes)
    tokens = sum(one.completion_tokens for one in minutes)
    text = f"{amount(requests, 'request')} ended, {failed or 'none'} failed; {amount(tokens, 'token')} written."
    return LastHourView(
        sentence=text if requests else "No request ended.",
        minutes=[MinuteView.from_object(one, phases=dict(one.phases)) for one in minutes],
    )


def _first_token_ms(minutes: Iterable[Minute]) -> float | None:
    times: Counter[int] = Counter()
    for one in minutes:
        times.update(one.first_token)
    return percentile_ms(times, 95)


def sentence(
    servers: Sequence[ServerView],
    running: int,
    waiting: int,
    line: Sequence[ActiveView],
    first_token_ms: float | None = None,
) -> str:
    """Sum up the router in one sentence; `first_token_ms` is the last hour's 95th percentile."""
    used = [server for server in servers if server.state != "disabled"]
    up = sum(server.state in {"up", "draining"} for server in used)
    longest = f" (longest {max(one.seconds for one in line):.0f} s)" if line else ""
    noun = "server" if len(used) == 1 else "servers"
    first = "" if first_token_ms is None else f", p95 to first token {seconds(first_token_ms)}"
    return f"{up} of {len(used)} {noun} up, {running} running, {waiting} waiting{longest}{first}."


def attention(services: Services, servers: Sequence[ServerView]) -> Iterator[AttentionView]:
    """Yield what needs attention, the worst first."""
    if services.running_config.problem is not None:
        yield _bad(
            "config.refused",
            f"The config on disk cannot be used: {services.running_config.problem}",
            "orouter config check",
        )
    if services.coordination.away:
        yield _bad(
            "coordination.away",
            "Other routers cannot be reached: the coordination store does not answer.",
            "check the server in coordination.url",
        )
    if not services.sink.healthy:
        yield _bad(
            "database.away",
            "The database does not accept rows of the request log; they wait in memory.",
            "check the database and its disk",
        )
    for source, reason in sorted(services.discovery.problems.items()):
        yield _warn("discovery.failed", f"Server discovery at {source} fails: {reason}.", "orouter status")
    for server in servers:
        yield from _server_problems(server)
    yield from _fleet_problems(services, servers)
    overridden = {canonical_name(name) for name in services.config.models.memory_overrides}
    for server in servers:
        yield from _memory_problems(server, overridden)


def _fleet_problems(services: Services, servers: Sequence[ServerView]) -> Iterator[AttentionView]:
    figures, most = services.worker_news.figures(), services.config.queue.max_waiting
    if 0 < most <= (waiting := services.admission.waiting):
        what = f"The queue is full: {amount(waiting, 'request')} waiting, further ones are refused."
        yield _bad("line.full", what, "queue.max_waiting, or another server")
    if (cause := services.incidents.conditions.found.get("requests.refused")) is not None:
        yield _warn("requests.refused", f"{cause}.", "orouter requests list --ending refused")
    if figures["dropped"]:
        what = f"{amount(figures['dropped'], 'row')} of the request log were lost since the router started."
        yield _warn("log.lost", what, "check the database and its disk")
    up = services.fleet.servers
    versions = sorted({one.version for one in servers if one.version and one.name in up and up[one.name].up})
    if len(versions) > 1:
        shown = f"{', '.join(versions[:_MOST_VERSIONS])}{' and others' if len(versions) > _MOST_VERSIONS else ''}"
        yield _warn("versions.differ", f"Servers have different versions of Ollama: {shown}.", "orouter servers list")
    for name, digests in list(differing_digests(services.fleet.snapshot).items())[:_MOST]:
        shown = "; ".join(f"{digest[:12]} on {names_of(servers)}" for digest, servers in digests.items())
        what = f"{name} differs between servers: {shown}."
        yield _warn("digests.differ", what, f"orouter models pull {name} --to all")


def _memory_problems(server: ServerView, overridden: Collection[CanonicalName]) -> Iterator[AttentionView]:
    """Yield models whose size is a fifth off the computed one, which decides placements, unless `overridden`."""
    for row in server.loaded:
        if row.computed and canonical_name(row.model) not in overridden and abs(row.size / row.computed - 1) >= _FAR:
            taken = f"{row.size / GIB:.1f} GiB, {row.computed / GIB:.1f} were computed"
            what = f"{row.model} takes {taken} on {server.name}."
            yield _warn(
                "memory.differs", what, f'memory_overrides: {{"{row.model}": {row.size / GIB:.1f}}}', server.name
            )


def _server_problems(server: ServerView) -> Iterator[AttentionView]:
    name = server.name
    match server.state:
        case "down":
            what = f"{name} is down{f': {server.error}' if server.error else ''}."
            yield _bad("server.down", what, "orouter status", name)
        case "suspended":
            what = f"{name} is suspended after failures in a row."
            yield _warn("server.suspended", what, "it recovers when a probe succeeds", name)
        case "unknown":
            yield _warn("server.unknown", f"{name} has not answered yet.", "wait for its probe", name)
        case "draining":
            by = server.found_by
            found = "" if by is None else f" It was found by {by}, and gets no requests until it is undrained."
            yield _warn("server.draining", f"{name} is draining.{found}", f"orouter servers undrain {name}", name)
        case "up" | "disabled":
            pass


def _bad(kind: AttentionKind, what: str, fix: str, server: str | None = None) -> AttentionView:
    return AttentionView(severity="bad", kind=kind, server=server, what=what, fix=fix)


def _warn(kind: AttentionKind, what: str, fix: str, server: str | None = None) -> AttentionView:
    return AttentionView(severity="warn", kind=kind, server=server, what=what, fix=fix)
