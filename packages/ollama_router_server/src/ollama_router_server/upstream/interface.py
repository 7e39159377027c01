"""What the relay needs from an HTTP client, and nothing more.

An engine never retries, never follows redirects, never stores cookies, never reads proxy settings from the
environment, never decompresses, and adds no header but `Host`, `Content-Length` or `Transfer-Encoding`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from msgspec import Struct

from ollama_router_core.errors import UpstreamError

__all__ = [
    "Call",
    "CallingUpstream",
    "Headers",
    "Origin",
    "Timeouts",
    "Upstream",
    "UpstreamRequest",
    "UpstreamResponse",
]

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields in order; names are lower case, values are stripped of surrounding white space."""


class Origin(Struct, frozen=True):
    """Where connections go; two requests share a pooled connection only if their origins are equal.

    `name` is what error texts call it: users are not told addresses. `ca_file` names the authority of its certificate.
    """

    scheme: str
    host: str
    port: int
    name: str = ""
    ca_file: str | None = None

    @property
    def authority(self) -> str:
        """`host:port` for the Host field; the port is always written, an IPv6 address gets brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The name, or the address of a place without one."""
        return self.name or self.authority


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds for each phase of an exchange; None waits without end. There is no cap on the whole."""

    connect: float | None = 3.0
    first_byte: float | None = 300.0
    idle: float | None = 60.0


class UpstreamRequest(Struct, frozen=True, kw_only=True):
    """One request to one origin.

    `target` is the origin-form path with query, already built from the endpoint table. `headers` hold neither Host nor
    framing fields: the engine writes them. A `bytes` body is sent with Content-Length, an iterator with `body_length`
    with that Content-Length (ending early or late is an error), and without it chunked. A `fresh` one takes no
    connection that was used before.
    """

    origin: Origin
    method: str
    target: str
    headers: Headers = ()
    body: bytes | AsyncIterator[bytes] = b""
    body_length: int | None = None
    timeouts: Timeouts = Timeouts()
    fresh: bool = False


class UpstreamResponse(Protocol):
    """An answer whose head has arrived."""

    @property
    def status(self) -> int:
        """The final status code (1xx answers are swallowed)."""

    @property
    def headers(self) -> Headers:
        """The answer's fields as sent, framing and hop-by-hop ones included; the relay filters them."""

    @property
    def complete(self) -> bool:
        """Whether all of the body has been handed out: the next `read` is known to give b"" at once."""

    async def read(self) -> bytes:
        """Read the next piece of the body as soon as any is there, at most 256 KiB; b"" exactly at a complete end.

        Cancelling this loses nothing: it may be called again, and `close` is still owed.

        Raises:
            UpstreamTimeout: nothing came for `timeouts.idle` seconds.
            UpstreamDisconnected: the connection ended before the body was complete.
            UpstreamProtocolError: the body's framing is broken.
        """

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else cut it at once. Never blocks."""


class Upstream(Protocol):
    """An HTTP/1.1 client with pooled connections."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request and wait for the head of the answer. Cancelling this cuts the connection.

        Raises:
            ConnectFailed: no connection within `timeouts.connect`; nothing was sent.
            UpstreamTimeout: no head within `timeouts.first_byte` after the request was sent.
            UpstreamDisconnected: the connection ended first; the request may have run.
            UpstreamProtocolError: the head is not acceptable HTTP/1.1.
            Exception: whatever the body iterator raised; the connection has been cut.
        """

    def give_up(self, origin: Origin, error: UpstreamError) -> None:
        """Fail every request at an origin of whose answer nothing has come; their connections are cut."""

    async def aclose(self) -> None:
        """Close every connection."""


class Call(Protocol):
    """A request that was sent, whose answer is asked for without waiting; `close` is owed."""

    status: int
    headers: Headers
    complete: bool
    connect_seconds: float

    def head_arrived(self) -> bool:
        """Whether `status` and `headers` are there.

        Raises:
            UpstreamError: as `Upstream.send`; the connection has been cut.
            Exception: whatever the body iterator raised.
        """

    def take(self) -> bytes:
        """Take what has arrived of the body and was not taken yet; b"" if nothing has, or if with `complete` all was.

        The server must say something within `timeouts.idle` from when nothing was there.

        Raises:
            UpstreamError: as `UpstreamResponse.read`, once there is nothing left to take.
        """

    def give_up(self, error: Exception) -> None:
        """Fail it, and cut its connection, if nothing of the answer has come."""

    def close(self) -> None:
        """Give the connection back if the body was taken to its end, else cut it at once. Never blocks."""


class CallingUpstream(Upstream, Protocol):
    """An `Upstream` that needs no task for an exchange."""

    def open(self, request: UpstreamRequest, listener: Callable[[], None]) -> Call:
        """Send a request, on a new connection if none is idle.

        `listener` is called, never from inside this call, when the head, a piece, the end or a failure is there.

        Raises:
            ValueError: the request cannot be written as one.
        """
