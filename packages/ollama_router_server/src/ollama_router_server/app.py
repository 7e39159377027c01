"""The only wiring of the ASGI application: the relay for API routes, Falcon for everything else.

Proxied traffic does not pass through Falcon's request and response objects: Falcon drains a stream after the client
has gone and takes a broken upload for a complete one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import falcon.asgi
import structlog

from ollama_router_core.errors import RouterError
from ollama_router_core.exchange.events import Headers
from ollama_router_server.admin.about_resource import AboutResource
from ollama_router_server.admin.audit_resource import AuditResource
from ollama_router_server.admin.config_resource import ConfigResource, DiagnosticsResource
from ollama_router_server.admin.deferred_router import DeferredRouter
from ollama_router_server.admin.doctor.doctor_resource import DoctorResource
from ollama_router_server.admin.errors_resource import ErrorsResource
from ollama_router_server.admin.fleet_resource import (
    DrainResource,
    ExplainResource,
    ProbeResource,
    QueueResource,
    StatusResource,
)
from ollama_router_server.admin.groups_resource import GroupResource, GroupRightsResource, GroupsResource
from ollama_router_server.admin.health_resource import HealthResource, LiveResource, ReadyResource
from ollama_router_server.admin.history_resource import HistoryResource
from ollama_router_server.admin.incidents_resource import IncidentsResource
from ollama_router_server.admin.invitations_resource import InvitationResource
from ollama_router_server.admin.me_resource import (
    MeResource,
    MyChecksResource,
    MyTokenResource,
    MyTokensResource,
    MyUsageResource,
)
from ollama_router_server.admin.metrics_resource import MetricsResource
from ollama_router_server.admin.names_in_paths import NamesInPaths, with_names_whole
from ollama_router_server.admin.openapi import OpenApiResource
from ollama_router_server.admin.operations_resource import OperationResource, OperationsResource, RetryResource
from ollama_router_server.admin.overview_resource import (
    ModelResource,
    ModelsResource,
    OverviewResource,
    ServerHistoryResource,
    ServerResource,
    ServersResource,
)
from ollama_router_server.admin.request_replay_resource import RequestReplayResource
from ollama_router_server.admin.requests_resource import CancelResource, RequestResource, RequestsResource
from ollama_router_server.admin.rights_resource import RightsResource
from ollama_router_server.admin.series_resource import Series, SeriesResource
from ollama_router_server.admin.sessions_resource import UserSessionResource, UserSessionsResource
from ollama_router_server.admin.token_access import TokenAccess
from ollama_router_server.admin.usage_export_resource import Exports, UsageExportResource
from ollama_router_server.admin.usage_resource import ModelUsersResource, UsageResource
from ollama_router_server.admin.users_resource import TokenResource, TokensResource, UserResource, UsersResource
from ollama_router_server.admin.whatif_resource import OtherDayResource, WhatIf, WhatIfResource
from ollama_router_server.console.playground import PLAY_PATH, PlayDoor
from ollama_router_server.console.routes import add_console
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.http.cycle import FrontCycle
from ollama_router_server.http.path_token import has_path_token, move_path_token
from ollama_router_server.http.request_head import RequestHead
from ollama_router_server.relay.bodies import Receive, Send
from ollama_router_server.relay.relay import Relay, RelayDeps
from ollama_router_server.services import Services
from ollama_router_server.telemetry.metrics import ConsoleGauges, Gauges, Metrics, ServerGauges

__all__ = ["RouterApp", "create_app"]

_log = structlog.get_logger("app")
_OWN_ROUTES = ("/health", "/up", "/livez", "/readyz", "/metrics", "/router/", "/console")
_FOR_ASGI = tuple(path.encode() for path in (*_OWN_ROUTES, "/t/"))
_NEEDLESS_ENCODING = re.compile(r"%(?:2[DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")
"""Of letters, digits and `-._~`, which nobody has to encode."""


class RouterApp:
    """The ASGI application of one process."""

    def __init__(self, services: Services, relay: Relay, falcon_app: Any, playground: PlayDoor) -> None:
        self._services = services
        self._relay = relay
        self._falcon = falcon_app
        self._playground = playground

    def take(self, cycle: FrontCycle, head: RequestHead) -> bool:
        """Serve a request of the HTTP/1.1 front, unless it is for Falcon or has a token in its path."""
        path = head.target.partition(b"?")[0]
        if path.startswith(_FOR_ASGI) or b"%" in path or self._is_for_people(head.method, path, head.headers):
            return False
        self._relay.take(cycle, head)
        return True

    def end_requests(self) -> None:
        """Tell every client, and cut the answers that have begun: the grace period of a shutdown is over."""
        self._relay.shut_down()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] == "http" and has_path_token(scope):
            # Never past this line: with the setting off such a path is as unknown as any.
            await self._relay(self._without_path_token(scope), receive, send)
        elif scope["type"] == "http" and scope["path"] == PLAY_PATH:
            await self._playground.serve(self._relay, scope, receive, send)
        elif scope["type"] == "http":
            own = _is_own(scope) or self._is_for_people(scope["method"], scope["path"].encode(), scope["headers"])
            if own:
                await self._falcon(with_names_whole(scope), receive, send)
            else:
                await self._relay(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    def _is_for_people(self, method: str, path: bytes, headers: Headers) -> bool:
        """Whether a person's browser opens the bare address: programs ask it whether Ollama is there."""
        if path != b"/" or method != "GET" or not self._services.config.console.enabled:
            return False
        return any(name == b"accept" and b"text/html" in value for name, value in headers)

    def _without_path_token(self, scope: Any) -> Any:
        moved = move_path_token(scope)
        if self._services.config.token_in_path:
            return moved
        return {**moved, "path": "/t", "raw_path": b"/t", "headers": scope["headers"]}

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._services.start()
        except RouterError as error:
            await self._services.aclose()
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._relay.shut_down()
        await self._services.aclose()
        await send({"type": "lifespan.shutdown.complete"})


def _is_own(scope: Any) -> bool:
    """Whether a path is one of the router's own as it was sent, not only once it is decoded."""
    sent = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    return sent.startswith(_OWN_ROUTES) and _NEEDLESS_ENCODING.search(sent) is None


def _add_admin_routes(app: Any, services: Services) -> None:
    app.add_route("/router/explain", ExplainResource(services))
    app.add_route("/router/queue", QueueResource(services))
    app.add_route("/router/servers/{name}/drain", DrainResource(services, on=True))
    app.add_route("/router/servers/{name}/undrain", DrainResource(services, on=False))
    app.add_route("/router/servers/{name}/probe", ProbeResource(services))
    app.add_route("/router/users", UsersResource(services))
    app.add_route("/router/users/{name}", UserResource(services))
    app.add_route("/router/users/{name}/tokens", TokensResource(services))
    app.add_route("/router/users/{name}/tokens/{token}", TokenResource(services))
    app.add_route("/router/users/{name}/rights", RightsResource(services))
    app.add_route("/router/users/{name}/sessions", UserSessionsResource(services))
    app.add_route("/router/users/{name}/sessions/{id}", UserSessionResource(services))
    app.add_route("/router/users/{name}/invitation", InvitationResource(services))
    app.add_route("/router/groups", GroupsResource(services))
    app.add_route("/router/groups/{name}", GroupResource(services))
    app.add_route("/router/groups/{name}/rights", GroupRightsResource(services))
    app.add_route("/router/operations", OperationsResource(services))
    app.add_route("/router/operations/{id}", OperationResource(services))
    app.add_route("/router/operations/{id}/retry", RetryResource(services))
    app.add_route("/router/usage", UsageResource(services))
    app.add_route("/router/usage/users", ModelUsersResource(services))
    app.add_route("/router/audit", AuditResource(services))
    app.add_route("/router/doctor", DoctorResource(services))
    app.add_route("/router/history", HistoryResource(services))
    app.add_route("/router/incidents", IncidentsResource(services))
    app.add_route("/router/me", MeResource(services))
    app.add_route("/router/me/checks", MyChecksResource(services))
    app.add_route("/router/me/usage", MyUsageResource(services))
    app.add_route("/router/me/tokens", MyTokensResource(services))
    app.add_route("/router/me/tokens/{token}", MyTokenResource(services))
    app.add_route("/router/models", ModelsResource(services))
    app.add_route("/router/models/{name:path}", ModelResource(services))
    app.add_route("/router/requests/{id}/replay", RequestReplayResource(services))
    app.add_route("/router/servers", ServersResource(services))
    app.add_route("/router/servers/{name}", ServerResource(services))
    app.add_route("/router/servers/{name}/history", ServerHistoryResource(services))
    app.add_route("/router/about", AboutResource(services))
    app.add_route("/router/errors", ErrorsResource())
    app.add_route("/router/config", ConfigResource(services))
    app.add_route("/router/diagnostics", DiagnosticsResource(services))
    app.add_route("/router/openapi.json", OpenApiResource())


def _gauges(services: Services, in_flight: Callable[[], int], console: Callable[[], ConsoleGauges]) -> Gauges:
    fleet = services.fleet

    def servers() -> Iterator[ServerGauges]:
        for name, facts in fleet.servers.items():
            yield ServerGauges(
                name,
                up=bool(facts.up),
                in_flight=fleet.running(name),
                breaker=fleet.health.state_of(name, fleet.now()),
                draining=name in fleet.health.draining,
                loads=fleet.loads.begun[name],
                evictions=fleet.loads.evictions[name],
            )

    def longest_wait() -> float:
        arrived = services.admission.view.waiting_since
        return 0.0 if arrived is None else services.clock.monotonic() - arrived

    return Gauges(
        in_flight=in_flight,
        waiting=lambda: services.admission.waiting,
        longest_wait=longest_wait,
        servers=servers,
        deciding=services.deciding,
        log_pending=lambda: services.sink.pending,
        log_dropped=lambda: services.sink.dropped,
        log_lines_dropped=lambda: 0 if services.log_files is None else services.log_files.dropped,
        coordination_away=lambda: services.coordination.away if services.coordination.asks else None,
        config_refused=lambda: services.running_config.problem is not None,
        console=console,
    )


def _relay_deps(services: Services, metrics: Metrics) -> RelayDeps:
    return RelayDeps(
        config=services.config,
        targets=services.targets,
        upstream=services.upstream,
        fleet=services.fleet,
        admission=services.admission,
        authenticator=services.authenticator,
        limits=services.usage_limits,
        sink=services.sinks,
        clock=services.clock,
        metrics=metrics,
        responses=services.responses,
        traces=services.traces,
        proxies=services.proxies,
        key=services.coordination.secret,
        refused=services.refused,
    )


def _add_routes_of_all_workers(app: Any, services: Services, sync: WorkerSync) -> None:
    app.add_route("/metrics", MetricsResource(sync))
    app.add_route("/router/status", StatusResource(services, sync))
    app.add_route("/router/overview", OverviewResource(services, sync))
    app.add_route("/router/requests/{id}", RequestResource(services, sync))
    app.add_route("/router/requests", RequestsResource(services, sync))
    app.add_route("/router/requests/{id}/cancel", CancelResource(services, sync))


def create_app(services: Services) -> RouterApp:
    """Wire the application. Its lifespan starts and stops the services."""
    app: Any = falcon.asgi.App(router=DeferredRouter(), middleware=[NamesInPaths(), TokenAccess(services)])
    app.req_options.keep_blank_qs_values = True  # `?since=` is a mistake, not nothing
    app.add_route("/health", HealthResource(services))
    app.add_route("/up", LiveResource())
    app.add_route("/livez", LiveResource())
    app.add_route("/readyz", ReadyResource(services))
    _add_admin_routes(app, services)
    metrics = Metrics(_gauges(services, lambda: relay.in_flight, lambda: console.gauges()))  # noqa: PLW0108 - both made below
    relay = Relay(_relay_deps(services, metrics))
    services.running_config.on_change(lambda _change: relay.reconfigure(_relay_deps(services, metrics)))
    sync = services.worker_news.join(services.clock, metrics, relay)
    _add_routes_of_all_workers(app, services, sync)
    series = Series(services, sync)
    app.add_route("/router/series", SeriesResource(series))
    whatif, usage_export = WhatIf(services), UsageExportResource(services, Exports())
    app.add_route("/router/usage.csv", usage_export)
    app.add_route("/router/whatif", WhatIfResource(whatif))
    app.add_route("/router/history/whatif", OtherDayResource(whatif))
    console = add_console(app, services, sync, whatif, usage_export, series)
    return RouterApp(services, relay, app, console.playground)
