"""Uvicorn's options: the front, its limits, TLS."""

from __future__ import annotations

import ssl

import structlog
import uvicorn

from ollama_router_core.config.settings import Limits, Tls, parse_size
from ollama_router_core.errors import ConfigError
from ollama_router_server.app import create_app
from ollama_router_server.http.certificates import check_certificate
from ollama_router_server.http.connection_caps import ConnectionCaps
from ollama_router_server.http.file_limit import most_connections
from ollama_router_server.http.protocol_limits import Bounds, ProtocolLimits
from ollama_router_server.http.strict import strict_protocol
from ollama_router_server.running_config import ConfigChange
from ollama_router_server.services import Services

__all__ = ["uvicorn_config"]

_log = structlog.get_logger("serve")


_BEYOND_GRACE_SECONDS = 2
"""uvicorn cancels the remaining requests this long after the grace period; by then `RouterServer` has ended them."""


def uvicorn_config(services: Services) -> tuple[uvicorn.Config, Bounds]:
    """Configure uvicorn for these services; limits and the certificate follow changes of the config.

    The returned bounds apply to all connections.
    """

    def trusted(address: str) -> bool:
        return services.proxies.trusts(address)  # read at call time: the config may change

    bounds = Bounds(_front_limits(services.config.limits), ConnectionCaps(trusted))
    tls = services.config.tls
    config = uvicorn.Config(
        create_app(services),
        http=strict_protocol(bounds),  # type: ignore[arg-type]  # uvicorn only calls it
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        lifespan="on",
        proxy_headers=False,
        timeout_graceful_shutdown=round(services.config.limits.shutdown_grace) + _BEYOND_GRACE_SECONDS,
        ssl_certfile=tls.certificate,
        ssl_keyfile=tls.key,
    )

    def follow(change: ConfigChange) -> None:
        bounds.limits = _front_limits(change.config.limits)
        if config.ssl is not None:
            _renew(config.ssl, tls)

    services.running_config.on_change(follow)
    return config, bounds


def _front_limits(limits: Limits) -> ProtocolLimits:
    room = most_connections()
    return ProtocolLimits(
        connections=min(limits.max_connections, room),
        connections_of_one=min(limits.max_connections_per_address, max(1, room // 2)),
        header_bytes=parse_size(limits.max_head),
        header_lines=limits.max_fields,
        target_bytes=parse_size(limits.max_target),
        header_timeout=limits.head_timeout,
        body_idle=limits.body_timeout,
        write_stall=limits.write_timeout,
    )


def _renew(context: ssl.SSLContext, tls: Tls) -> None:
    """Reload the certificate; open connections keep the old one."""
    try:
        check_certificate(tls)
    except ConfigError as error:
        _log.error("certificate_refused", error=error.message)
    else:
        context.load_cert_chain(str(tls.certificate), tls.key)
