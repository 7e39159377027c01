"""The console's routes, added to the application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon
from msgspec import Struct

from ollama_router_core.errors import RouterError
from ollama_router_server.admin.admin_routes import ACTING
from ollama_router_server.admin.config_resource import DiagnosticsResource
from ollama_router_server.admin.json_resource import json_resources
from ollama_router_server.admin.series_resource import Series
from ollama_router_server.admin.usage_export_resource import UsageExportResource
from ollama_router_server.admin.whatif_resource import WhatIf
from ollama_router_server.console.assets import AssetResource, Assets
from ollama_router_server.console.door import ClaimResource, FrontDoor, Refusals, SessionResource
from ollama_router_server.console.events_resource import EventsResource
from ollama_router_server.console.find_resource import FindResource
from ollama_router_server.console.guard import ConsoleAccess
from ollama_router_server.console.page_versions import Changes
from ollama_router_server.console.pages import Pages, pages
from ollama_router_server.console.playground import PLAY_PATH, PlayDoor, PlayResource
from ollama_router_server.console.rendering import Renderer
from ollama_router_server.console.repeats import Repeats
from ollama_router_server.console.sessions import Sessions
from ollama_router_server.console.shared_parts import SharedParts
from ollama_router_server.console.watchers import Watchers
from ollama_router_server.console.whatif_events import WhatIfEvents
from ollama_router_server.coordination.worker_sync import WorkerSync
from ollama_router_server.services import Services
from ollama_router_server.telemetry.metrics import ConsoleGauges

__all__ = ["Console", "add_console"]


class Console(Struct, frozen=True):
    """What the application needs of its console: its metrics, and the playground's connection to the relay."""

    gauges: Callable[[], ConsoleGauges]
    playground: PlayDoor


def add_console(
    app: Any, services: Services, sync: WorkerSync, whatif: WhatIf, usage_export: UsageExportResource, series: Series
) -> Console:
    """Add the console to the router's Falcon application."""
    assets, sessions = Assets(), Sessions(services)
    renderer = Renderer(assets)
    refusals = Refusals(renderer)
    access = ConsoleAccess(services, sessions)
    app.add_middleware(access)
    app.add_middleware(Repeats(sessions, services.clock.monotonic))
    app.add_error_handler(RouterError, refusals.router_error)
    app.add_error_handler(falcon.HTTPError, refusals.http_error)
    app.add_route("/", FrontDoor())
    app.add_route("/console/session", SessionResource(sessions))
    app.add_route("/console/claim", ClaimResource(sessions))
    app.add_route("/console/v/{version}/{name:path}", AssetResource(assets))
    app.add_route("/console/usage.csv", usage_export)
    app.add_route("/console/diagnostics.json", DiagnosticsResource(services))
    app.add_route(PLAY_PATH, PlayResource())
    for path, resource in json_resources(services, ACTING).items():
        app.add_route(path.replace("/router/", "/console/act/"), resource)
    watchers = Watchers(Changes(services, sync), services.clock, over=lambda: services.draining)
    build = Pages(services, sync, whatif, series)
    shown = pages(build, renderer, SharedParts(lambda: watchers.moment))
    for path, page in shown.items():
        app.add_route(f"/console/{path}", page)
    app.add_route("/console/whatif/events", WhatIfEvents(whatif, renderer, build))
    app.add_route("/console/find", FindResource(services, shown))
    app.add_route("/console/events", EventsResource(watchers, sessions, shown))
    gauges = lambda: ConsoleGauges(sessions.opened, watchers.now, watchers.cut)  # noqa: E731
    return Console(gauges, PlayDoor(access, app))
