"""The client's side of one exchange: its body, its leaving, and writing to it.

Belongs here: all use of ASGI's `receive` and `send`.
Does not belong here: what is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from ollama_router_core.errors import BodyTooLarge

__all__ = ["Client", "ClientGone", "Message"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientGone(Exception):
    """The client closed its connection; nobody is left to answer."""


class Client:
    """One client for the length of one exchange.

    `started` is True once a head was written; `bytes_out` counts body bytes handed to the HTTP server.
    """

    __slots__ = ("_ending", "_finished", "_read", "_receive", "_send", "_task", "bytes_in", "bytes_out", "started")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._ending: Exception | None = None
        self._task: asyncio.Task[Any] | None = None
        self._finished = False
        self._read: asyncio.Event | None = None
        self.started = False
        self.bytes_in = 0
        self.bytes_out = 0

    async def read_body(self, limit: int) -> bytes:
        """The whole request body.

        Raises:
            BodyTooLarge: more than `limit` bytes.
            ClientGone: the client left before the body was complete; what came is worth nothing.
        """
        pieces: list[bytes] = []
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            self.bytes_in += len(piece)
            if self.bytes_in > limit:
                raise BodyTooLarge(f"the body is larger than the limit of {limit} bytes")
            pieces.append(piece)
            more = message.get("more_body", False)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The request body as it comes, however long. Inside `watched` that looks for leaving only after its end.

        Raises:
            ClientGone: the client left before the body was complete.
        """
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece = message.get("body", b"")
            self.bytes_in += len(piece)
            more = message.get("more_body", False)
            if piece:
                yield piece
        if self._read is not None:
            self._read.set()

    def will_stream(self) -> None:
        """Say, before `watched`, that the body is read inside it."""
        self._read = asyncio.Event()

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Cancel what runs inside as soon as the client leaves.

        To be entered when the body has been read, or after `will_stream`.

        Raises:
            ClientGone: the client left.
            Exception: what `end` was told.
        """
        self._task = task = asyncio.current_task()
        if task is None:  # pragma: no cover - there is always a task
            raise RuntimeError("watched() needs a running task")
        watcher = asyncio.ensure_future(self._wait_for_leaving())
        try:
            yield
        except asyncio.CancelledError:
            if self._ending is not None and task.uncancel() == 0:
                raise self._ending from None
            raise
        finally:
            self._finished = True
            watcher.cancel()

    def end(self, reason: Exception) -> None:
        """Stop what runs inside `watched` and raise `reason` there; without effect once the answer is complete."""
        if self._task is not None and not self._finished and self._ending is None:
            self._ending = reason
            self._task.cancel()

    async def _wait_for_leaving(self) -> None:
        if self._read is not None:
            await self._read.wait()
        message: Message = {}
        while message.get("type") != "http.disconnect":
            message = await self._receive()
        self.end(ClientGone())

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Write the head of the answer."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, piece: bytes) -> None:
        """Write a piece of the body; waits while the client is slow."""
        self.bytes_out += len(piece)
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def finish(self, piece: bytes = b"") -> None:
        """Write the last piece; the answer is complete."""
        self._finished = True
        self.bytes_out += len(piece)
        await self._send({"type": "http.response.body", "body": piece, "more_body": False})
