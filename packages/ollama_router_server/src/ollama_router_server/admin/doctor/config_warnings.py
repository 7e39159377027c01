"""What is allowed in a config and yet not meant."""

from __future__ import annotations

from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config.found_servers import unknown_assignments
from ollama_router_core.config.settings import Tls
from ollama_router_core.errors import ConfigError
from ollama_router_core.outbound.host_profiles import vain_lines
from ollama_router_server.admin.doctor.finding import Installation
from ollama_router_server.coordination.between_routers import unshared
from ollama_router_server.http.certificates import check_certificate
from ollama_router_server.upstream.targets import missing_keys

__all__ = ["config_warnings"]


def config_warnings(installed: Installation) -> list[str]:
    """List what cannot be had or has no effect: keys, lines of profiles, certificate, servers; what is not shared."""
    return [
        *missing_keys(installed.config, installed.variables),
        *vain_lines(installed.config, shipped_profiles()),
        *_certificate(installed.config.tls),
        *unknown_assignments(installed.config),
        *unshared(installed.config, installed.database_url),
    ]


def _certificate(tls: Tls) -> list[str]:
    """Warn only: the user who checks may not be allowed to read files that the router can."""
    if tls == Tls():
        return []
    try:
        check_certificate(tls)
    except ConfigError as error:
        return [error.message]
    return []
