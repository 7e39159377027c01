"""The config in effect, without secrets: `GET /router/config`, and a file for support."""

from __future__ import annotations

import asyncio

from falcon.asgi import Request, Response

from ollama_router_core.config import Config, dump_config, redacted
from ollama_router_server.admin.about_resource import find_about
from ollama_router_server.admin.json_bodies import answer
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.about import AboutView
from ollama_router_server.admin.views.servers import ServersView, server_views
from ollama_router_server.services import Services

__all__ = ["ConfigView", "DiagnosticsResource", "DiagnosticsView", "find_config"]


class ConfigView(View):
    """Every setting as YAML, with passwords and header values masked.

    `problem` says, by line, why the current file is invalid; null if it is in effect. `needs_restart` lists changed
    settings that take effect at a restart.
    """

    text: str
    problem: str | None
    needs_restart: list[str]


class DiagnosticsView(View):
    """The router, its config, its servers and its log. No data of users, requests, prompts or responses."""

    about: AboutView
    config: ConfigView
    servers: ServersView
    log_pending: int
    log_dropped: int
    log_error: str | None


async def find_config(services: Services, _request: Request) -> ConfigView:
    """Return the config in effect, and why a newer one is not applied."""
    return ConfigView(
        text=await asyncio.to_thread(_text, services.running_config.declared),  # 200 servers take a tenth of a second
        problem=services.running_config.problem,
        needs_restart=list(services.running_config.needs_restart),
    )


def _text(config: Config) -> str:
    return dump_config(redacted(config))


class DiagnosticsResource:
    """`GET /router/diagnostics`: data for support, as a file."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer program, config, servers and log; no data of users or their requests."""
        services = self._services
        view = DiagnosticsView(
            about=await find_about(services, request),
            config=await find_config(services, request),
            servers=server_views(services),
            log_pending=services.sink.pending,
            log_dropped=services.sink.dropped,
            log_error=services.sink.last_error,
        )
        answer(response, view)
        response.set_header("content-disposition", 'attachment; filename="ollama-router-diagnostics.json"')
