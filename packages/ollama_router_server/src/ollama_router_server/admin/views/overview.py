"""The whole router at a glance: one sentence, what needs attention, what runs and what waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from ollama_router_server.admin.views.requests import ActiveView, active_views
from ollama_router_server.admin.views.servers import ServerView, server_views
from ollama_router_server.admin.views.view import View
from ollama_router_server.services import Services

__all__ = ["AttentionView", "OverviewView", "attention", "overview", "sentence"]

_MOST = 5


class AttentionView(View):
    """Something that somebody should look at, and what mends it."""

    severity: Literal["bad", "warn"]
    what: str
    fix: str


class OverviewView(View):
    """The router now. `attention` has at most five entries, the worst first; `more` counts the others."""

    sentence: str
    servers: list[ServerView]
    attention: list[AttentionView]
    more: int
    running: list[ActiveView]
    waiting: list[ActiveView]
    waiting_count: int


def overview(services: Services, under_way: Sequence[dict[str, Any]]) -> OverviewView:
    """The router now; `under_way` are the requests in progress in all workers."""
    active = active_views(under_way)
    waiting = [one for one in active if one.state == "waiting"]
    running = [one for one in active if one.state != "waiting"]
    servers, count = server_views(services).servers, services.figures()["waiting"]
    found = list(attention(services, servers))
    return OverviewView(
        sentence=sentence(servers, len(running), max(count, len(waiting)), waiting),
        servers=servers,
        attention=found[:_MOST],
        more=max(0, len(found) - _MOST),
        running=running,
        waiting=waiting,
        waiting_count=max(count, len(waiting)),
    )


def sentence(servers: Sequence[ServerView], running: int, waiting: int, line: Sequence[ActiveView]) -> str:
    """The state of the router in one sentence."""
    used = [server for server in servers if server.state != "disabled"]
    up = sum(server.state in {"up", "draining"} for server in used)
    longest = f" (longest {max(one.seconds for one in line):.0f} s)" if line else ""
    noun = "server" if len(used) == 1 else "servers"
    return f"{up} of {len(used)} {noun} up, {running} running, {waiting} waiting{longest}."


def attention(services: Services, servers: Sequence[ServerView]) -> Iterator[AttentionView]:
    """What somebody should look at, the worst first."""
    if services.config_problem is not None:
        yield AttentionView(
            severity="bad",
            what=f"The config on disk cannot be used: {services.config_problem}",
            fix="orouter config check",
        )
    if services.coordination.away:
        yield AttentionView(
            severity="bad",
            what="Other routers cannot be asked: the store of coordination does not answer.",
            fix="check the server in coordination.url",
        )
    if not services.sink.healthy:
        yield AttentionView(
            severity="bad",
            what="The database does not take rows of the request log; they wait in memory.",
            fix="check the database and its disk",
        )
    for source, reason in sorted(services.discovery.problems.items()):
        what = f"Servers cannot be looked for at {source}: {reason}."
        yield AttentionView(severity="warn", what=what, fix="orouter status")
    for server in servers:
        yield from _of_server(server)


def _of_server(server: ServerView) -> Iterator[AttentionView]:
    match server.state:
        case "down":
            what = f"{server.name} is down{f': {server.error}' if server.error else ''}."
            yield AttentionView(severity="bad", what=what, fix="orouter status")
        case "suspended":
            what = f"{server.name} is suspended after failures in a row."
            yield AttentionView(severity="warn", what=what, fix="it comes back by itself when a probe succeeds")
        case "unknown":
            yield AttentionView(severity="warn", what=f"{server.name} has not answered yet.", fix="wait for its probe")
        case "draining":
            fix = f"orouter servers undrain {server.name}"
            found = (
                ""
                if server.found_by is None
                else f" It was found by {server.found_by}, and is used once it is undrained."
            )
            yield AttentionView(severity="warn", what=f"{server.name} is draining.{found}", fix=fix)
        case "up" | "disabled":
            pass
