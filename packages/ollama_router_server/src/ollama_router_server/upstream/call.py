"""One request to one server, from sending to closing; its progress is polled, never awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ollama_router_server.upstream.connection import Connection
from ollama_router_server.upstream.interface import Headers

__all__ = ["UpstreamCall"]


class UpstreamCall:
    """A request in flight and its response. The listener is called when there is progress to poll.

    Attributes:
        status: the response's status; 0 until its head has arrived.
        headers: the response's header fields.
        complete: whether all of the body has been taken.
        connect_seconds: how long the connection took to open; 0 for a pooled one.
        connecting: the task that opens the connection, if none was pooled.
        connection: the connection that the request is written to.
    """

    __slots__ = ("_error", "complete", "connect_seconds", "connecting", "connection", "headers", "listener", "status")

    def __init__(self, listener: Callable[[], None]) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.complete = False
        self.connect_seconds = 0.0
        self.listener = listener
        self.connection: Connection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self._error: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        """Fail the request: there is no connection."""
        self._error, self.connection = error, None
        self.listener()

    def head_arrived(self) -> bool:
        """Return whether `status` and `headers` are available.

        Raises:
            UpstreamError: the request failed; the connection has been cut.
            Exception: an error of the request's body.
        """
        if self.status:
            return True
        if self._error is not None:
            raise self._error
        if self.connection is None or not self.connection.head_arrived():
            return False
        parser = self.connection.parser
        self.status, self.headers = parser.status, parser.headers
        return True

    def take(self) -> bytes:
        """Return what has arrived of the body since the last call; b"" if nothing.

        Raises:
            UpstreamError: the response broke off, and everything before that has been taken.
        """
        connection = self.connection
        if connection is None:
            return b""
        piece = connection.take()
        self.complete = connection.parser.complete
        return piece

    def give_up(self, error: Exception) -> None:
        """Fail the request unless its response has started; no effect once it is closed."""
        if self.connection is not None:
            self.connection.give_up(error)
        elif self.connecting is not None and not self.connecting.done():
            self.connecting.cancel()
            self.failed(error)

    def close(self) -> None:
        """Return the connection to the pool after a complete response, else cut it. Never blocks."""
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.release()
