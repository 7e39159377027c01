"""The wiring of the ASGI application: the relay for API routes, Falcon for everything else.

Proxied traffic bypasses Falcon's request and response objects: Falcon drains a stream after the client has
disconnected, and takes a truncated upload as complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import falcon.asgi
import structlog

from ollama_router_core.errors import RouterError
from ollama_router_core.exchange.events import Headers
from ollama_router_server.admin.admin_routes import OPERATIONS
from ollama_router_server.admin.config_resource import DiagnosticsResource
from ollama_router_server.admin.deferred_router import DeferredRouter
from ollama_router_server.admin.health_resource import HealthResource, LiveResource, ReadyResource
from ollama_router_server.admin.json_resource import json_resources
from ollama_router_server.admin.metrics_resource import MetricsResource
from ollama_router_server.admin.names_in_paths import NamesInPaths, with_names_whole
from ollama_router_server.admin.openapi import openapi_document
from ollama_router_server.admin.operation_row import Handler
from ollama_router_server.admin.series_resource import Series, read_span
from ollama_router_server.admin.token_access import TokenAccess
from ollama_router_server.admin.usage_export_resource import Exports, UsageExportResource
from ollama_router_server.admin.whatif_resource import WhatIf, WhatIfResource
from ollama_router_server.console.playground import PLAY_PATH, PlayDoor
from ollama_router_server.console.routes import add_console
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
"""Percent-encodings of letters, digits and `-._~`, which need no encoding."""


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
        """End every request in flight and cut responses that have started: the grace period is over."""
        self._relay.shut_down()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] == "http" and has_path_token(scope):
            # Always handled here: with the setting off, the path must be as unknown as any other.
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
        """Return whether a browser requests the root page; programs request it to check that Ollama is there."""
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
    """Return whether a path is one of the router's own, without needless percent-encoding."""
    sent = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    return sent.startswith(_OWN_ROUTES) and _NEEDLESS_ENCODING.search(sent) is None


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


def create_app(services: Services) -> RouterApp:
    """Wire the application. Its lifespan starts and stops the services."""
    app: Any = falcon.asgi.App(router=DeferredRouter(), middleware=[NamesInPaths(), TokenAccess(services)])
    app.req_options.keep_blank_qs_values = True  # `?since=` is an error, not an absent value
    app.add_route("/health", HealthResource(services))
    app.add_route("/up", LiveResource())
    app.add_route("/livez", LiveResource())
    app.add_route("/readyz", ReadyResource(services))
    metrics = Metrics(_gauges(services, lambda: relay.in_flight, lambda: console.gauges()))  # noqa: PLW0108 - both made below
    relay = Relay(_relay_deps(services, metrics))
    services.running_config.on_change(lambda _change: relay.reconfigure(_relay_deps(services, metrics)))
    sync = services.worker_news.join(services.clock, metrics, relay)
    app.add_route("/metrics", MetricsResource(sync))
    series, whatif, usage_export = Series(services, sync), WhatIf(services), UsageExportResource(services, Exports())
    own: dict[str, Handler] = {
        "/router/series": lambda _, request: series.find(read_span(request)),
        "/router/history/whatif": lambda _, request: whatif.ask_day(request),
        "/router/openapi.json": lambda *_: openapi_document(),
    }
    for path, resource in json_resources(services, OPERATIONS, own).items():
        app.add_route(path, resource)
    app.add_route("/router/diagnostics", DiagnosticsResource(services))
    app.add_route("/router/usage.csv", usage_export)
    app.add_route("/router/whatif", WhatIfResource(whatif))
    console = add_console(app, services, sync, whatif, usage_export, series)
    return RouterApp(services, relay, app, console.playground)
