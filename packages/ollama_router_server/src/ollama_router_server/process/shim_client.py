"""The client side of one exchange of the shim: read the body, detect a disconnect, write the response."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ollama_router_core.exchange.events import ClientLeft
from ollama_router_server.relay.bodies import Receive, Send, body_pieces

__all__ = ["ShimClient"]


class ShimClient:
    """One client for one exchange; `started` is True once the response head is written."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.started = False
        self._receive = receive
        self._send = send
        self._read = asyncio.Event()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the request body as it arrives.

        Raises:
            ClientLeft: the client disconnected before the body was complete.
        """
        async for piece in body_pieces(self._receive):
            yield piece
        self._read.set()

    async def read_nothing(self) -> bytes:
        """Read the body of a request that has none.

        Raises:
            ClientLeft: the client disconnected.
        """
        return b"".join([piece async for piece in self.pieces()])

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancel the body of the `async with` block when the client disconnects.

        Raises:
            ClientLeft: the client disconnected.
        """
        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self._wait_for_leaving())
                yield
                watcher.cancel()
        except ExceptionGroup as errors:  # callers expect the error itself
            raise errors.exceptions[0] from None

    async def _wait_for_leaving(self) -> None:
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise ClientLeft

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Write the response head."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, piece: bytes) -> None:
        """Write a piece of the body; waits while the client is slow."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def finish(self, piece: bytes = b"") -> None:
        """Write the last piece, which completes the response."""
        await self._send({"type": "http.response.body", "body": piece, "more_body": False})
