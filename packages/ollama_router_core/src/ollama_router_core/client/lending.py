"""The inner transport of the asynchronous twin when the program brings none: one connection to each inner transport.

Why not one transport with a pool: httpx 0.28's pool (httpcore 1.0.9) keeps the slot of a connection whose request was
cancelled while it connected, for good. Twenty tasks that cancel make `max_connections=10` refuse everything after some
seconds, and without a limit they leave hundreds of dead entries and file descriptors. A pool of one connection that
serves one request at a time cannot leak: after a cancellation or an error it is closed as a whole.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from ollama_router_core.client.system import Clock

__all__ = ["ConnectionPool", "Lease", "make_sync_inner"]

_MOST_IDLE = 64
"""Connections kept for each origin."""
_IDLE_SECONDS = 60.0


class Lease:
    """One inner transport on loan for one request."""

    __slots__ = ("_key", "_lender", "transport")

    def __init__(self, lender: ConnectionPool, key: tuple[int, str], transport: Any) -> None:
        self._lender = lender
        self._key = key
        self.transport = transport

    def give_back(self) -> Any:
        """The answer was read to its end: the connection may serve another request. What has to be closed, or None."""
        return self._lender.keep(self._key, self.transport)

    async def discard(self) -> None:
        """The request was cancelled or failed: nothing of it may live on."""
        await self.transport.aclose()


class ConnectionPool:
    """Idle inner transports by library and origin, the latest used first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle: dict[tuple[int, str], list[tuple[Any, float]]] = {}
        self._tls: dict[int, Any] = {}
        self._closed = False

    def lend(self, library: Any, origin: str) -> Lease:
        """An idle transport for this origin, or a new one."""
        key = (id(library), origin)
        idle = self._idle.get(key)
        transport = idle.pop()[0] if idle else self._make(library, origin)
        return Lease(self, key, transport)

    def keep(self, key: tuple[int, str], transport: Any) -> Any:
        """Keep a transport for later; gives the one to close in its stead: it, or one that has been idle for long."""
        idle = self._idle.setdefault(key, [])
        if self._closed or len(idle) >= _MOST_IDLE:
            return transport
        now = self._clock.monotonic()
        idle.append((transport, now))
        return idle.pop(0)[0] if now - idle[0][1] > _IDLE_SECONDS else None

    async def aclose(self) -> None:
        """Close what is idle; what is on loan is closed when it comes back."""
        self._closed = True
        while self._idle:
            _, idle = self._idle.popitem()
            for transport, _ in idle:
                await transport.aclose()

    def _make(self, library: Any, origin: str) -> Any:
        limits = library.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_SECONDS)
        return library.AsyncHTTPTransport(verify=_tls(self._tls, library, origin), limits=limits, trust_env=False)


def make_sync_inner(library: Any, origins: list[str]) -> Any:
    """The inner transport of the synchronous twin: nothing is cancelled there, so one pool without a limit will do."""
    secure = next((origin for origin in origins if origin.startswith("https:")), "http:")
    limits = library.Limits(max_connections=None, max_keepalive_connections=_MOST_IDLE, keepalive_expiry=_IDLE_SECONDS)
    return library.HTTPTransport(verify=_tls({}, library, secure), limits=limits, trust_env=False)


def _tls(known: dict[int, Any], library: Any, origin: str) -> Any:
    """A context that verifies; reading the list of authorities takes 20 ms, so it is shared and only where needed."""
    key = id(library) if origin.startswith("https:") else 0
    if key not in known:
        make: Callable[[], Any] = library.create_ssl_context if key else _unused_tls
        known[key] = make()
    return known[key]


def _unused_tls() -> ssl.SSLContext:
    """For plain HTTP; should it ever be used, it trusts nobody."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
