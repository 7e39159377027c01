"""The asyncio protocol that uvicorn runs for each connection, as far as uvicorn and the transport are concerned.

Uvicorn calls whatever its documented option `http` names with `config`, `server_state`, `app_state` and `_loop`. In
return its `Server` expects each open connection in `server_state.connections`, with a method `shutdown`, and each
task that answers a request in `server_state.tasks`; it puts the fields of every answer in `default_headers`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

from ollama_router_server.http.flow_control import FlowControl

__all__ = ["FrontConnection", "ServerConfig", "ServerState"]


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


class FrontConnection(asyncio.Protocol):
    """One connection of a client: its transport, its addresses, its flow control."""

    __slots__ = (
        "app",
        "app_state",
        "client",
        "flow",
        "loop",
        "scheme",
        "server",
        "server_state",
        "timeout_keep_alive",
        "transport",
    )

    transport: asyncio.Transport
    flow: FlowControl

    def __init__(
        self,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.app = config.loaded_app
        self.app_state = app_state
        self.loop = _loop or asyncio.get_running_loop()
        self.server_state = server_state
        self.timeout_keep_alive = config.timeout_keep_alive
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.scheme = "http"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register with uvicorn's server."""
        self.transport = cast("asyncio.Transport", transport)
        self.flow = FlowControl(self.transport)
        self.client = _internet_address(transport, "peername")
        self.server = _internet_address(transport, "sockname")
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        self.server_state.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Unregister, and wake writers, which find the connection gone."""
        self.server_state.connections.discard(self)
        self.flow.resume_writing()

    def pause_writing(self) -> None:
        """Stop writing: the client takes less than the application sends."""
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        """Write again: the client has caught up."""
        self.flow.resume_writing()

    def shutdown(self) -> None:
        """Close the connection, after the answer in progress if there is one; called by uvicorn's server."""
        raise NotImplementedError


def _internet_address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    try:
        address = transport.get_extra_info(name)
    except OSError:  # uvloop asks the socket, whose client may be gone
        return None
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None
