"""What uvicorn and the transport provide to each connection.

Uvicorn calls the class in its documented option `http` with `config`, `server_state`, `app_state` and `_loop`. Its
`Server` expects each open connection in `server_state.connections`, with a `shutdown` method, and each task that serves
a request in `server_state.tasks`; it sends `default_headers` with every response.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Protocol

__all__ = ["Addresses", "ServerConfig", "ServerState"]


class ServerConfig(Protocol):
    """The part of `uvicorn.Config` that is read."""

    timeout_keep_alive: int

    @property
    def loaded_app(self) -> Any:
        """The ASGI application."""


class ServerState(Protocol):
    """The state that the connections of one `uvicorn.Server` share."""

    total_requests: int
    connections: set[Any]
    tasks: set[asyncio.Task[None]]
    default_headers: list[tuple[bytes, bytes]]


class Addresses(NamedTuple):
    """Both ends of a connection (None for a Unix socket) and the scheme of its requests."""

    client: tuple[str, int] | None
    server: tuple[str, int] | None
    scheme: str

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> Addresses:
        """Read the addresses of a transport that has just connected."""
        scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        return cls(_internet_address(transport, "peername"), _internet_address(transport, "sockname"), scheme)


def _internet_address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    try:
        address = transport.get_extra_info(name)
    except OSError:  # uvloop queries the socket, whose peer may be gone
        return None
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None
