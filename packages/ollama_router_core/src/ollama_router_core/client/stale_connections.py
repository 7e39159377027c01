"""Tracking of the connection of a request: whether it was reused, and how to shut it down."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from ollama_router_core.errors import UpstreamDisconnected, UpstreamError

__all__ = ["ConnectionTrace"]

_CONNECTS = "connection.connect_tcp.started"
_CONNECTED = frozenset({"connection.connect_tcp.complete", "connection.start_tls.complete"})
_SENDS = "http11.send_request_headers.started"


class ConnectionTrace:
    """Events of the HTTP library's `trace` extension about the connection of one request."""

    __slots__ = ("_connected", "_ended", "_sent", "_socket")

    def __init__(self) -> None:
        self._connected = self._ended = self._sent = False
        self._socket: socket.socket | None = None

    def note(self, event: str, info: Any) -> None:
        """Record an event of a blocking request."""
        self._connected = self._connected or event == _CONNECTS
        self._sent = self._sent or event == _SENDS
        if event in _CONNECTED:
            self._socket = info["return_value"].get_extra_info("socket")
            if self._ended:
                self.end()

    @property
    def is_new(self) -> bool:
        """Whether the connection was opened for this request, so that `end` works."""
        return self._socket is not None

    def end(self) -> None:
        """Shut down a connection opened for this request, which wakes the thread that waits for the response."""
        self._ended = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    async def note_async(self, event: str, info: Any) -> None:
        """Record an event of an asynchronous request."""
        self.note(event, info)

    def judge(self, library: Any, error: Exception, failure: UpstreamError) -> None:
        """Record in `failure` whether the connection was reused, and whether it was closed or reset.

        The library's error text distinguishes a close without any response byte from a truncated head.
        """
        if not isinstance(failure, UpstreamDisconnected) or not self._sent or self._connected:
            return
        closed = isinstance(error, library.RemoteProtocolError)
        failure.reset = not closed
        failure.reused = not closed or str(error).startswith("Server disconnected without")
