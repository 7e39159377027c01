"""What uvicorn and the transport give each connection.

Uvicorn calls whatever its documented option `http` names with `config`, `server_state`, `app_state` and `_loop`. In
return its `Server` expects each open connection in `server_state.connections`, with a method `shutdown`, and each
task that answers a request in `server_state.tasks`; it puts the fields of every answer in `default_headers`.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Protocol

__all__ = ["Addresses", "ServerConfig", "ServerState"]


class ServerConfig(Protocol):
    """What is read of `uvicorn.Config`."""

    timeout_keep_alive: int

    @property
    def loaded_app(self) -> Any:
        """The ASGI application."""


class ServerState(Protocol):
    """What the connections of one `uvicorn.Server` share."""

    total_requests: int
    connections: set[Any]
    tasks: set[asyncio.Task[None]]
    default_headers: list[tuple[bytes, bytes]]


class Addresses(NamedTuple):
    """Both ends of a connection, None where they are no internet addresses, and the scheme of its requests."""

    client: tuple[str, int] | None
    server: tuple[str, int] | None
    scheme: str

    @classmethod
    def of(cls, transport: asyncio.BaseTransport) -> Addresses:
        """Ask a transport that has just been connected."""
        scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        return cls(_internet_address(transport, "peername"), _internet_address(transport, "sockname"), scheme)


def _internet_address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    try:
        address = transport.get_extra_info(name)
    except OSError:  # uvloop asks the socket, whose client may be gone
        return None
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None
