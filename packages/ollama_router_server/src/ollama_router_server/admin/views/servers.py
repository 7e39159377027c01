"""Servers as shown to people: their state, memory and speed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import falcon

from ollama_router_core.api.endpoints import parse_version
from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, LoadedModel, ServerFacts
from ollama_router_core.fleet.speeds import model_weight
from ollama_router_server.admin.view import GIB, View
from ollama_router_server.admin.views.server_memory import ServerMemoryView, server_memory
from ollama_router_server.services import Services
from ollama_router_server.telemetry.server_hour import ServerHour

__all__ = [
    "LoadedView",
    "ProbeView",
    "ServerDetailView",
    "ServerModelView",
    "ServerState",
    "ServerView",
    "ServersView",
    "age_of",
    "check_server",
    "loaded_view",
    "probe_view",
    "server_detail",
    "server_model",
    "server_views",
]

ServerState = Literal["up", "down", "suspended", "draining", "unknown", "disabled"]
_OF_ITS_ADDRESS: Final = {
    *("url", "host", "port", "protocol", "path_prefix", "name"),
    *("api_key_env", "api_key_file", "headers", "ca_file"),
}
"""Settings that contain a server's address or credentials."""
_ATTENTION: tuple[ServerState, ...] = ("down", "suspended", "unknown", "draining", "up", "disabled")


class LoadedView(View):
    """A model in a server's memory; `expires_in_seconds` is null if it never expires or this is unknown.

    `size` is measured; `computed` is the router's estimate at this context, null if it cannot compute one.
    """

    model: str
    size: int
    computed: int | None
    vram: int
    context: int | None
    expires_in_seconds: float | None


class ServerView(View):
    """One server. `slots` is its `max_concurrent`, `memory_limit` its `max_memory_gb`; null is no limit.

    `since` (seconds since 1970) is the start of its state, null if unknown. `is_odd_version`: most servers that are up
    have another version. In the last hour, to five minutes, `failed_last_hour` requests and attempts failed on it, and
    its output speed was `tokens_per_second`, null if unknown.
    `found_by` is the discovery source, null for a server of the config.
    """

    name: str
    found_by: str | None
    state: ServerState
    since: float | None = None
    error: str | None
    draining: bool
    priority: int
    version: str | None
    is_odd_version: bool = False
    requests_last_hour: int = 0
    failed_last_hour: int = 0
    tokens_per_second: float | None = None
    probe_ms: float | None
    probed_seconds_ago: float | None
    running: int
    slots: int | None
    memory_limit: int | None
    memory_loaded: int
    loaded: list[LoadedView]
    loading: list[str]
    models: int | None


class ServersView(View):
    """All servers of the config, those that need attention first."""

    servers: list[ServerView]


class ServerModelView(View):
    """A model on one server's disk, with its expected speeds there."""

    model: str
    size: int
    digest: str
    loaded: bool
    load_seconds: float
    prefill_tokens_per_second: float
    decode_tokens_per_second: float
    samples: int


class ServerDetailView(ServerView):
    """One server with its models; only admins see `address`. `settings` are the others of its section."""

    memory: ServerMemoryView
    settings: dict[str, Any]
    address: str | None
    breaker: str
    failures_in_a_row: int
    tried_again_in_seconds: float | None
    lists_seconds_ago: float | None
    on_disk: list[ServerModelView]


class ProbeView(View):
    """The result of a probe; `error` is null if the server `answered`.

    A server that was down is up after two successful probes in a row, which the router makes by itself.
    """

    server: str
    answered: bool
    error: str | None
    state: ServerState
    version: str | None
    probe_ms: float | None
    models: int | None
    loaded: list[str]


def check_server(services: Services, name: str) -> None:
    """Check that the config has a server.

    Raises:
        HTTPNotFound: it has no server of this name.
    """
    if name not in services.config.servers:
        raise falcon.HTTPNotFound(title="no such server", description=f"the config has no server {name[:128]!r}")


def server_views(services: Services) -> ServersView:
    """Return all servers of the config, those that need attention first, then by name."""
    snapshot, now = services.fleet.snapshot, services.clock.monotonic()
    context = _FleetContext(services.worker_news.servers_hour(), _usual_version(snapshot))
    shown = [_server(services, name, snapshot, now, context) for name in services.config.servers]
    return ServersView(servers=sorted(shown, key=lambda one: (_ATTENTION.index(one.state), one.name)))


def server_detail(services: Services, name: str, *, address: bool) -> ServerDetailView:
    """Return one server of the config with its models.

    Raises:
        HTTPNotFound: the config has no such server.
    """
    check_server(services, name)
    server = services.config.servers[name]
    snapshot, now = services.fleet.snapshot, services.clock.monotonic()
    facts = snapshot.servers.get(name) or ServerFacts(name=name)
    health = services.fleet.health.to_json(name, now)
    context = _FleetContext(services.worker_news.servers_hour(), _usual_version(snapshot))
    on_disk = [server_model(facts, installed, snapshot) for installed in (facts.installed or {}).values()]
    return ServerDetailView(
        **_server(services, name, snapshot, now, context).model_dump(),
        memory=server_memory(services, facts, server, now),
        settings=server.model_dump(mode="json", exclude=_OF_ITS_ADDRESS),
        address=f"{server.protocol}://{server.host}:{server.port}" if address else None,
        breaker=health["breaker"],
        failures_in_a_row=health["failures_in_a_row"],
        tried_again_in_seconds=health["tried_again_in_seconds"],
        lists_seconds_ago=age_of(facts.installed_at, now),
        on_disk=sorted(on_disk, key=lambda one: one.model),
    )


def probe_view(services: Services, name: str, error: str | None) -> ProbeView:
    """Return the view of a server that was just probed; `error` is why it did not answer."""
    found = server_detail(services, name, address=False)
    return ProbeView(
        server=name,
        answered=error is None,
        error=error,
        state=found.state,
        version=found.version,
        probe_ms=found.probe_ms if error is None else None,
        models=found.models,
        loaded=[row.model for row in found.loaded],
    )


class _FleetContext(NamedTuple):
    """Data of the whole fleet that each server's view needs."""

    hours: Mapping[str, ServerHour]
    version: str | None


def _usual_version(snapshot: FleetSnapshot) -> str | None:
    """Return the most common version of servers that are up; of equally common ones the newest."""
    counts = Counter(one.version for one in snapshot.servers.values() if one.up and one.version)
    return max(counts, key=lambda one: (counts[one], parse_version(one) or ()), default=None)


def _server(services: Services, name: str, snapshot: FleetSnapshot, now: float, context: _FleetContext) -> ServerView:
    server = services.config.servers[name]
    hour = context.hours.get(name, ServerHour())
    facts = snapshot.servers.get(name) or ServerFacts(name=name)
    draining = name in services.fleet.health.draining
    breaker = services.fleet.health.state_of(name, now)
    state = _state(server, facts, draining=draining, suspended=breaker == "open")
    speed = hour.tokens_per_second
    return ServerView(
        name=name,
        found_by=services.running_config.found_by.get(name),
        state=state,
        since=services.fleet.state_times.since(name, state),
        is_odd_version=bool(facts.up and facts.version) and facts.version != context.version,
        requests_last_hour=hour.requests,
        failed_last_hour=hour.failed,
        tokens_per_second=None if speed is None else round(speed, 1),
        error=facts.error,
        draining=draining,
        priority=server.priority,
        version=facts.version,
        probe_ms=None if facts.probe_ms is None else round(facts.probe_ms, 2),
        probed_seconds_ago=age_of(facts.probed_at, now),
        running=snapshot.in_flight.get(name, 0),
        slots=server.max_concurrent,
        memory_limit=None if server.max_memory_gb is None else round(server.max_memory_gb * GIB),
        memory_loaded=sum(row.size for row in facts.loaded.values()),
        loaded=[
            loaded_view(row, now, services.computed_sizes.find(row, facts, server))
            for row in sorted(facts.loaded.values(), key=lambda row: -row.size)
        ],
        loading=sorted(map(str, facts.loading)),
        models=None if facts.installed is None else len(facts.installed),
    )


def _state(server: Server, facts: ServerFacts, *, draining: bool, suspended: bool) -> ServerState:
    if not server.enabled:
        return "disabled"
    if facts.up is None:
        return "unknown"
    if not facts.up:
        return "down"
    if suspended:
        return "suspended"
    return "draining" if draining else "up"


def loaded_view(row: LoadedModel, now: float, computed: int | None) -> LoadedView:
    """Show a row of `/api/ps`."""
    return LoadedView(
        model=str(row.name),
        size=row.size,
        computed=computed,
        vram=row.size_vram,
        context=row.context_length,
        expires_in_seconds=None if row.expires_at is None else round(max(0.0, row.expires_at - now), 1),
    )


def server_model(facts: ServerFacts, installed: InstalledModel, snapshot: FleetSnapshot) -> ServerModelView:
    """Return a model on a server with its expected speeds; without samples they are guesses from its size."""
    weight = model_weight(installed.spelling, installed)
    speed = snapshot.speeds.expect(facts.name, installed.name, weight) if snapshot.speeds else None
    return ServerModelView(
        model=installed.spelling,
        size=installed.size,
        digest=installed.digest,
        loaded=installed.name in facts.loaded,
        load_seconds=round(speed.load_seconds, 2) if speed else 0.0,
        prefill_tokens_per_second=round(speed.prefill_rate, 1) if speed else 0.0,
        decode_tokens_per_second=round(speed.decode_rate, 1) if speed else 0.0,
        samples=speed.samples if speed else 0,
    )


def age_of(then: float | None, now: float) -> float | None:
    """Return the age in seconds of a time of the fleet's clock."""
    return None if then is None else round(now - then, 1)
