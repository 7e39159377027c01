"""Requests that met a kept connection which its server was closing; the core decides which are sent again."""

from __future__ import annotations

from typing import Any

from ollama_router_core.errors import UpstreamDisconnected, UpstreamError

__all__ = ["ConnectionTrace"]

_CONNECTS = "connection.connect_tcp.started"
_SENDS = "http11.send_request_headers.started"


class ConnectionTrace:
    """What the HTTP library's `trace` extension says of the connection that carries one request."""

    __slots__ = ("_connected", "_sent")

    def __init__(self) -> None:
        self._connected = self._sent = False

    def note(self, event: str, _: Any) -> None:
        """Take one event of a blocking request."""
        self._connected = self._connected or event == _CONNECTS
        self._sent = self._sent or event == _SENDS

    async def note_async(self, event: str, info: Any) -> None:
        """Take one event of an asynchronous request."""
        self.note(event, info)

    def judge(self, library: Any, error: Exception, failure: UpstreamError) -> None:
        """Note in `failure` whether the connection had been used before, and whether it was closed or reset.

        The library's words tell an end without a byte of an answer from a head that was cut.
        """
        if not isinstance(failure, UpstreamDisconnected) or not self._sent or self._connected:
            return
        closed = isinstance(error, library.RemoteProtocolError)
        failure.reset = not closed
        failure.reused = not closed or str(error).startswith("Server disconnected without")
