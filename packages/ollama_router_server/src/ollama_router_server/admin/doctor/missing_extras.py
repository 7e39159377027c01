"""Extras that a config needs; without them the router does not start."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from ollama_router_core.config.settings import Config

__all__ = ["missing_extras"]

_TRACING = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")  # other packages may install the rest


def missing_extras(config: Config, database_url: str) -> Iterator[tuple[str, str]]:
    """Yield a reason and the installing command for each missing extra."""
    needs = (
        (database_url.startswith("postgres"), "database_url", "postgres", ("psycopg",)),
        (config.coordination.url is not None, "coordination.url", "redis", ("redis",)),
        (bool(config.discovery.dns), "discovery.dns", "dns", ("dns",)),
        (config.discovery.mdns is not None, "discovery.mdns", "mdns", ("zeroconf",)),
        (config.traces.enabled, "traces.enabled", "otel", _TRACING),
    )
    for asked, setting, extra, modules in needs:
        if asked and not all(_is_installed(module) for module in modules):
            command = f"pip install 'ollama-router-server[{extra}]'"
            yield f"{setting} needs the extra {extra}, without which the router does not start: {command}", command


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False
