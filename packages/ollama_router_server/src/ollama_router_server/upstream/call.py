"""One request to one server, from when it is sent until it is closed; what comes of it is asked for without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ollama_router_server.upstream.connection import Connection
from ollama_router_server.upstream.interface import Headers

__all__ = ["UpstreamCall"]


class UpstreamCall:
    """A request on its way, and its answer. The listener is told when there is something new to ask for.

    Attributes:
        status: of the answer, 0 until its head has come.
        headers: of the answer.
        complete: all of the body has been taken.
        connect_seconds: how long its connection took to make; 0 for one that was kept.
    """

    __slots__ = ("_connecting", "_connection", "_error", "complete", "connect_seconds", "headers", "listener", "status")

    def __init__(self, listener: Callable[[], None]) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.complete = False
        self.connect_seconds = 0.0
        self.listener = listener
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._error: BaseException | None = None

    def connecting(self, task: asyncio.Task[None]) -> None:
        """There is no connection yet; `task` makes one."""
        self._connecting = task

    def sent(self, connection: Connection) -> None:
        """Note the connection that the request is written to."""
        self._connection = connection

    def not_sent(self) -> None:
        """Note that the request cannot be written as one; the connection is free again."""
        self._connection = None

    def failed(self, error: BaseException) -> None:
        """There is no connection, and there will be none."""
        self._error, self._connection = error, None
        self.listener()

    def head_arrived(self) -> bool:
        """Whether `status` and `headers` are there.

        Raises:
            UpstreamError: they will never be; the connection has been cut.
            Exception: whatever the request's body raised.
        """
        if self.status:
            return True
        if self._error is not None:
            raise self._error
        if self._connection is None or not self._connection.head_arrived():
            return False
        parser = self._connection.parser
        self.status, self.headers = parser.status, parser.headers
        return True

    def take(self) -> bytes:
        """Take what has come of the body and was not taken yet; b"" if nothing has.

        Raises:
            UpstreamError: the answer broke off, and all that came before was taken.
        """
        connection = self._connection
        if connection is None:
            return b""
        piece = connection.take()
        self.complete = connection.parser.complete
        return piece

    def give_up(self, error: Exception) -> None:
        """Fail the request, if nothing of its answer has come; without effect once it is closed."""
        if self._connection is not None:
            self._connection.give_up(error)
        elif self._connecting is not None and not self._connecting.done():
            self._connecting.cancel()
            self.failed(error)

    def close(self) -> None:
        """Give the connection back after a complete answer, else cut it. Never blocks."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()
