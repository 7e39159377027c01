"""Which connections are open, and which of them may be used again.

There is no limit on connections: how many requests a server may hold at once is admission's decision, and a pool
with a limit of its own is a second queue that nobody sees.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from ollama_router_server.upstream.interface import Origin

__all__ = ["Pool", "Poolable"]


class Poolable(Protocol):
    """What the pool needs to know about a connection."""

    origin: Origin
    lost: bool
    """Its socket is closed."""

    def usable(self) -> bool:
        """Whether nothing has arrived since the last answer, not even an end."""

    def abort(self) -> None:
        """Close at once."""


ConnectionT = TypeVar("ConnectionT", bound=Poolable)


class Pool(Generic[ConnectionT]):
    """Open connections; every method but `aclose` is immediate."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[ConnectionT]] = {}
        self._open: set[ConnectionT] = set()
        self._emptied: asyncio.Future[None] | None = None
        self.closed = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def idle(self) -> int:
        """How many open connections wait for a request."""
        return sum(len(stack) for stack in self._idle.values())

    def take(self, origin: Origin) -> ConnectionT | None:
        """Take the connection used last that is still good; drop those found closed on the way."""
        stack = self._idle.get(origin)
        while stack:
            connection = stack.pop()
            if connection.usable():
                return connection
            connection.abort()
        return None

    def put(self, connection: ConnectionT) -> None:
        """Keep a connection for the next request to its origin."""
        if self.closed:
            connection.abort()
        else:
            self._idle.setdefault(connection.origin, []).append(connection)

    def opened(self, connection: ConnectionT) -> None:
        """Note a connection that has been made, and may have been lost since."""
        if not connection.lost:
            self._open.add(connection)

    def at(self, origin: Origin) -> list[ConnectionT]:
        """Return the open connections to one origin, idle or not."""
        return [connection for connection in self._open if connection.origin == origin]

    def forget(self, connection: ConnectionT) -> None:
        """Forget an idle connection, which must not be taken any more; its stack goes when it is empty."""
        stack = self._idle.get(connection.origin)
        if stack is not None and connection in stack:
            stack.remove(connection)
            if not stack:
                del self._idle[connection.origin]

    def lost(self, connection: ConnectionT) -> None:
        """Note that a connection's socket is closed."""
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
