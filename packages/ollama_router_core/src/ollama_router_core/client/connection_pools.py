"""The inner transports for programs that supply none.

Asynchronous requests do not share a transport, because httpx 0.28's pool (httpcore 1.0.9) leaks the slot of a request
that is cancelled while a connection is assigned to it. Twenty cancelling tasks exhaust `max_connections=10` within
seconds; without a limit they leave hundreds of dead connections. A transport with one connection for one request at a
time cannot leak: after a cancellation or an error it is closed.
"""

from __future__ import annotations

import ssl
from typing import Any

from ollama_router_core.exchange.environment import Clock

__all__ = ["ConnectionPool", "pooled_transport"]

_MOST_IDLE = 64
"""Maximum number of idle connections per origin."""
_IDLE_SECONDS = 60.0


class ConnectionPool:
    """Idle inner transports by library and origin, most recently used first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle: dict[tuple[str, str], list[tuple[Any, float]]] = {}
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}
        self._closed = False

    def lend(self, library: Any, origin: str, *, fresh: bool = False) -> Any:
        """Return an idle transport for this origin, or a new one, to one request."""
        idle = None if fresh else self._idle.get((library.__name__, origin))
        return idle.pop()[0] if idle else self._new(library, origin)

    def give_back(self, library: Any, origin: str, transport: Any) -> Any:
        """Keep the transport after a complete response; return one to close, this or one idle for too long, or None."""
        idle = self._idle.setdefault((library.__name__, origin), [])
        if self._closed or len(idle) >= _MOST_IDLE:
            return transport
        now = self._clock.monotonic()
        idle.append((transport, now))
        return idle.pop(0)[0] if now - idle[0][1] > _IDLE_SECONDS else None

    async def aclose(self) -> None:
        """Close idle transports; those in use are closed when they are returned."""
        self._closed = True
        while self._idle:
            _, idle = self._idle.popitem()
            for transport, _ in idle:
                await transport.aclose()

    def _new(self, library: Any, origin: str) -> Any:
        secure = origin.startswith("https:")
        context = self._contexts.get((library.__name__, secure))
        if context is None:
            context = self._contexts[library.__name__, secure] = _tls_context(library, secure=secure)
        limits = library.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_SECONDS)
        return library.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False)


def pooled_transport(library: Any, origins: list[str]) -> Any:
    """Build the synchronous inner transport with httpx's own pool, as nothing is cancelled there."""
    context = _tls_context(library, secure=any(origin.startswith("https:") for origin in origins))
    limits = library.Limits(max_connections=None, max_keepalive_connections=_MOST_IDLE, keepalive_expiry=_IDLE_SECONDS)
    return library.HTTPTransport(verify=context, limits=limits, trust_env=False)


def _tls_context(library: Any, *, secure: bool) -> ssl.SSLContext:
    """Build a verifying context; certificate authorities, which take 20 ms to load, only if `secure`."""
    if secure:
        context: ssl.SSLContext = library.create_ssl_context()
        return context
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
