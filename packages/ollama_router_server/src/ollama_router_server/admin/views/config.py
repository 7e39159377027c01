"""The config in effect, and diagnostics for support."""

from __future__ import annotations

from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.about import AboutView
from ollama_router_server.admin.views.servers import ServersView

__all__ = ["ConfigView", "DiagnosticsView"]


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
