"""The config in force, and what is told of a router to those who are asked for help."""

from __future__ import annotations

from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.about import AboutView
from ollama_router_server.admin.views.servers import ServersView

__all__ = ["ConfigView", "DiagnosticsView"]


class ConfigView(View):
    """Every setting as YAML, passwords and values of headers masked.

    `problem` says, by line, why the file as it is now cannot be used; null while it is what holds. `needs_restart`
    names settings that the file changes and a restart takes up.
    """

    text: str
    problem: str | None
    needs_restart: list[str]


class DiagnosticsView(View):
    """What the router is, its config, its servers and its log. Nothing of users, requests, prompts and answers."""

    about: AboutView
    config: ConfigView
    servers: ServersView
    log_pending: int
    log_dropped: int
    log_error: str | None
