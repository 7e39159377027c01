"""The address of a config's console, and sign-in links."""

from __future__ import annotations

from ollama_router_cli.errors import CommandFailed
from ollama_router_cli.sources.settings_source import Settings
from ollama_router_server.storage.console_sessions import ConsoleSessions
from ollama_router_server.storage.database import Database
from ollama_router_server.system import SystemClock

__all__ = ["console_address", "console_sessions"]


def console_address(settings: Settings) -> str:
    """Return the router's public address, without a trailing slash.

    Raises:
        CommandFailed: the config disables the console.
    """
    if not settings.config.console.enabled:
        raise CommandFailed("the console is disabled in the config: console.enabled")
    return (settings.config.console.public_url or settings.router_url).rstrip("/")


def console_sessions(database: Database, settings: Settings) -> ConsoleSessions:
    """Return the sessions and links of a database, with the config's expiry."""
    limits = settings.config.console
    return ConsoleSessions(
        database, clock=SystemClock(), idle=limits.session_idle_timeout, longest=limits.session_max_age
    )
