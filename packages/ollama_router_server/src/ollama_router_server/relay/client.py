"""The client's side of one exchange: its body, its leaving, and writing to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any

from ollama_router_core.errors import BodyTooLarge
from ollama_router_server.http.cycle import FrontCycle

__all__ = ["Client", "ClientGone", "Message"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ClientGone(Exception):
    """The client closed its connection; nobody is left to answer."""


class Client:
    """One client for the length of one exchange.

    `started` is True once a head was written, `framed` if that declared a length; `bytes_out` counts body bytes handed
    to the HTTP server.
    """

    __slots__ = (
        "_ending",
        "_finished",
        "_front",
        "_kept_alive",
        "_read",
        "_receive",
        "_send",
        "_stop",
        "bytes_in",
        "bytes_out",
        "framed",
        "started",
    )

    def __init__(self, receive: Receive, send: Send, front: FrontCycle | None = None) -> None:
        self._front = front
        self._receive = receive
        self._send = send
        self._ending: Exception | None = None
        self._stop: Callable[[], object] | None = None
        self._finished = False
        self._kept_alive = False
        self._read: asyncio.Event | None = None
        self.started = self.framed = False
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
        if self._read is not None:
            self._read.set()
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

    def watched(self) -> _Watch:
        """Cancel what runs inside as soon as the client leaves. To be entered when the body was read, or `will_stream`.

        Raises:
            ClientGone: the client left.
            Exception: what `end` was told.
        """
        return _Watch(self)

    @property
    def ending(self) -> Exception | None:
        """What `end` was told."""
        return self._ending

    def stops_with(self, stop: Callable[[], object] | None) -> None:
        """What `end` calls outside `watched`."""
        self._stop = stop

    def _leave(self) -> None:
        self.end(ClientGone())

    def end(self, reason: Exception) -> None:
        """Stop what runs inside `watched` and raise `reason` there; without effect once the answer is complete."""
        if self._stop is not None and not self._finished and self._ending is None:
            self._ending = reason
            self._stop()

    async def _wait_for_leaving(self) -> None:
        if self._read is not None:
            await self._read.wait()
        message: Message = {}
        while message.get("type") != "http.disconnect":
            message = await self._receive()
        self.end(ClientGone())

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Write the head of the answer; without effect where a sign of life had to bring one."""
        if self._kept_alive:
            return
        self.started = True
        self.framed = any(name == b"content-length" for name, _ in headers)
        if self._front is None:
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
        elif not self._front.disconnected:
            self._front.begin(status, headers)

    async def write(self, piece: bytes) -> None:
        """Write a piece of the body; waits while the client is slow."""
        self.bytes_out += len(piece)
        if self._front is None:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        elif self._front.put(piece):
            await self._front.drained()

    async def keep_alive(self, headers: list[tuple[bytes, bytes]], piece: bytes) -> None:
        """Write a sign of life, after a head if there is none yet; it does not count as a piece of the answer."""
        await self.start(200, headers)
        self._kept_alive = True
        self.bytes_out -= len(piece)
        await self.write(piece)

    async def finish(self, piece: bytes = b"") -> None:
        """Write the last piece; the answer is complete."""
        self._finished = True
        self.bytes_out += len(piece)
        if self._front is None:
            await self._send({"type": "http.response.body", "body": piece, "more_body": False})
        else:
            self._front.put(piece, more=False)


class _Watch:
    """The block in which a client is watched: by the front's word, or by a task where ASGI is all there is."""

    __slots__ = ("_client", "_task", "_watcher")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        client = self._client
        task = asyncio.current_task()
        if task is None:  # pragma: no cover - there is always a task
            raise RuntimeError("watched() needs a running task")
        client._stop, self._task = task.cancel, task  # noqa: SLF001 - the watch is a part of the client
        front = client._front  # noqa: SLF001 - the same
        if front is None:
            self._watcher = asyncio.ensure_future(client._wait_for_leaving())  # noqa: SLF001 - the same
        elif front.disconnected:
            raise ClientGone
        else:
            front.on_leave = client._leave  # noqa: SLF001 - the same

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client = self._client
        client._finished = True  # noqa: SLF001 - the same
        if self._watcher is not None:
            self._watcher.cancel()
        reason = client._ending  # noqa: SLF001 - the same
        if isinstance(error, asyncio.CancelledError) and reason is not None and self._task.uncancel() == 0:
            raise reason from None
