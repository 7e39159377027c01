"""The pool of open connections, and which of them can be reused.

The pool is unbounded: admission decides how many requests a server may run at once, and a bounded pool would be a
second, hidden queue.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from ollama_router_server.upstream.interface import Origin

__all__ = ["Pool", "Poolable"]


class Poolable(Protocol):
    """A pooled connection."""

    origin: Origin
    lost: bool
    """Whether the socket is closed."""

    def usable(self) -> bool:
        """Return whether nothing has arrived since the last response, not even an end of file."""

    def abort(self) -> None:
        """Close at once."""


ConnectionT = TypeVar("ConnectionT", bound=Poolable)


class Pool(Generic[ConnectionT]):
    """Open connections by origin; every method but `aclose` returns at once."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[ConnectionT]] = {}
        self._open: set[ConnectionT] = set()
        self._emptied: asyncio.Future[None] | None = None
        self.closed = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> int:
        """The number of open connections without a request."""
        return sum(len(stack) for stack in self._idle.values())

    def take(self, origin: Origin) -> ConnectionT | None:
        """Take the most recently used connection that is still usable; abort closed ones."""
        stack = self._idle.get(origin)
        while stack:
            connection = stack.pop()
            if connection.usable():
                return connection
            connection.abort()
        return None

    def put(self, connection: ConnectionT) -> None:
        """Keep an idle connection for the next request to its origin."""
        if self.closed:
            connection.abort()
        else:
            self._idle.setdefault(connection.origin, []).append(connection)

    def opened(self, connection: ConnectionT) -> None:
        """Register a new connection, unless it has already been lost."""
        if not connection.lost:
            self._open.add(connection)

    def at(self, origin: Origin) -> list[ConnectionT]:
        """Return the open connections to one origin, idle or not."""
        return [connection for connection in self._open if connection.origin == origin]

    def forget(self, connection: ConnectionT) -> None:
        """Remove an idle connection, so that it cannot be taken."""
        stack = self._idle.get(connection.origin)
        if stack is not None and connection in stack:
            stack.remove(connection)
            if not stack:
                del self._idle[connection.origin]

    def lost(self, connection: ConnectionT) -> None:
        """Unregister a connection whose socket is closed."""
        self._open.discard(connection)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    async def aclose(self) -> None:
        """Abort every connection and wait until their sockets are closed."""
        self.closed = True
        for connection in tuple(self._open):
            connection.abort()
        if self._open:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied
