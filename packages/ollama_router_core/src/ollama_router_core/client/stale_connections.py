"""Requests that met a kept connection which its server was closing: they have not run, and may be sent again."""

from __future__ import annotations

from typing import Any

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

    def was_stale(self, library: Any, error: Exception) -> bool:
        """Tell whether a connection used before was closed, not reset, without a byte of an answer."""
        return (
            self._sent
            and not self._connected
            and isinstance(error, library.RemoteProtocolError)
            and str(error).startswith("Server disconnected without")  # not a head that was cut
        )
