"""Warnings about a valid config that is probably not intended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.util import find_spec

from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config.found_servers import unknown_assignments
from ollama_router_core.config.settings import Config, Tls
from ollama_router_core.errors import ConfigError
from ollama_router_core.outbound.host_profiles import unknown_lines
from ollama_router_server.admin.doctor.finding import Finding, Installation
from ollama_router_server.coordination.between_routers import unshared
from ollama_router_server.http.certificates import check_certificate
from ollama_router_server.upstream.targets import missing_keys

__all__ = ["config_smells", "config_warnings"]

_TRACING = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")  # other packages may install the rest


def config_warnings(installed: Installation) -> list[str]:
    """List missing extras and keys, lines without effect, unknown servers, unshared state, certificate problems."""
    return [*(one.reason for one in config_smells(installed)), *_certificate(installed.config.tls)]


def config_smells(installed: Installation) -> Iterator[Finding]:
    """Yield the same warnings, except for the certificate, each with its fix."""
    config = installed.config
    for reason, fix in _missing_extras(config, installed.database_url):
        yield Finding.warning("config", reason, fix)
    kinds: tuple[tuple[Iterable[str], str], ...] = (
        (missing_keys(config, installed.variables), "systemctl edit ollama-router (Environment=), or api_key_file"),
        (unknown_lines(config, shipped_profiles()), "remove the line, then: orouter config check"),
        (unknown_assignments(config), "orouter servers list"),
        (unshared(config, installed.database_url), "coordination.url: redis://HOST:6379/0 in the config"),
    )
    for reasons, fix in kinds:
        for reason in reasons:
            yield Finding.warning("config", reason, fix)


def _missing_extras(config: Config, database_url: str) -> Iterator[tuple[str, str]]:
    """Yield a reason and the installing command for each extra without which the router does not start."""
    needs = (
        (database_url.startswith("postgres"), "database_url", "postgres", ("psycopg",)),
        (config.coordination.url is not None, "coordination.url", "redis", ("redis",)),
        (bool(config.discovery.dns), "discovery.dns", "dns", ("dns",)),
        (config.discovery.mdns is not None, "discovery.mdns", "mdns", ("zeroconf",)),
        (config.traces.enabled, "traces.enabled", "otel", _TRACING),
    )
    for needed, setting, extra, modules in needs:
        if needed and not all(_is_installed(module) for module in modules):
            command = f"pip install 'ollama-router-server[{extra}]'"
            yield f"{setting} needs the extra {extra}, without which the router does not start: {command}", command


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def _certificate(tls: Tls) -> list[str]:
    """Return a warning, not an error: the current user may lack permission to read the router's files."""
    if tls == Tls():
        return []
    try:
        check_certificate(tls)
    except ConfigError as error:
        return [error.message]
    return []
