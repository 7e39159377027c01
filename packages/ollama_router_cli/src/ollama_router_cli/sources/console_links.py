"""Where the console of a config is, and who may be let in by a link."""

from __future__ import annotations

from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.sources.settings_source import Settings
from ollama_router_server.storage.console_sessions import ConsoleSessions
from ollama_router_server.storage.database import Database
from ollama_router_server.system import SystemClock

__all__ = ["console_address", "console_sessions"]


def console_address(settings: Settings) -> str:
    """Return the router's address for people, without a trailing slash.

    Raises:
        CommandFailed: the config turns the console off.
    """
    if not settings.config.console.enabled:
        raise CommandFailed("the console is disabled in the config: console.enabled")
    return (settings.config.console.public_url or settings.router_url).rstrip("/")


def console_sessions(database: Database, settings: Settings) -> ConsoleSessions:
    """Sessions and links of a database, which end as the config says."""
    limits = settings.config.console
    return ConsoleSessions(
        database, clock=SystemClock(), idle=limits.session_idle_timeout, longest=limits.session_max_age
    )
