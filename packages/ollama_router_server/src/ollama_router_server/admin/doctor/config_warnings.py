"""Warnings about a valid config that is probably not intended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config.found_servers import unknown_assignments
from ollama_router_core.config.settings import Tls
from ollama_router_core.errors import ConfigError
from ollama_router_core.outbound.host_profiles import vain_lines
from ollama_router_server.admin.doctor.finding import Finding, Installation
from ollama_router_server.admin.doctor.missing_extras import missing_extras
from ollama_router_server.coordination.between_routers import unshared
from ollama_router_server.http.certificates import check_certificate
from ollama_router_server.upstream.targets import missing_keys

__all__ = ["config_smells", "config_warnings"]


def config_warnings(installed: Installation) -> list[str]:
    """List missing extras and keys, lines without effect, unknown servers, unshared state, certificate problems."""
    return [*(one.reason for one in config_smells(installed)), *_certificate(installed.config.tls)]


def config_smells(installed: Installation) -> Iterator[Finding]:
    """Yield the same warnings, except for the certificate, each with its fix."""
    config = installed.config
    for reason, fix in missing_extras(config, installed.database_url):
        yield Finding.warning("config", reason, fix)
    kinds: tuple[tuple[Iterable[str], str], ...] = (
        (missing_keys(config, installed.variables), "systemctl edit ollama-router (Environment=), or api_key_file"),
        (vain_lines(config, shipped_profiles()), "remove the line, then: orouter config check"),
        (unknown_assignments(config), "orouter servers list"),
        (unshared(config, installed.database_url), "coordination.url: redis://HOST:6379/0 in the config"),
    )
    for reasons, fix in kinds:
        for reason in reasons:
            yield Finding.warning("config", reason, fix)


def _certificate(tls: Tls) -> list[str]:
    """Return a warning, not an error: the current user may lack permission to read the router's files."""
    if tls == Tls():
        return []
    try:
        check_certificate(tls)
    except ConfigError as error:
        return [error.message]
    return []
