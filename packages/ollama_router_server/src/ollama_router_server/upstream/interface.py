"""The interface that the relay needs from an HTTP client.

An engine never retries, follows redirects, stores cookies, reads proxy settings from the environment, or decompresses,
and adds no header but `Host`, `Content-Length` or `Transfer-Encoding`.
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
"""Header fields in order; names in lower case, values stripped of surrounding white space."""


class Origin(Struct, frozen=True):
    """The endpoint of connections; requests share a pooled connection only if their origins are equal.

    `name` appears in error messages, since users must not see addresses. `ca_file` is the CA certificate to trust.
    """

    scheme: str
    host: str
    port: int
    name: str = ""
    ca_file: str | None = None

    @property
    def authority(self) -> str:
        """`host:port` for the Host field; always with the port, with brackets around an IPv6 address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The name, or the authority if there is none."""
        return self.name or self.authority


class Timeouts(Struct, frozen=True, kw_only=True):
    """Timeouts of each phase of an exchange, in seconds; None waits forever. The whole exchange has no timeout."""

    connect: float | None = 3.0
    first_byte: float | None = 300.0
    idle: float | None = 60.0


class UpstreamRequest(Struct, frozen=True, kw_only=True):
    """One request to one origin.

    `target` is the origin-form path with query, already built from the endpoint table. `headers` contain neither Host
    nor framing fields: the engine writes them. A `bytes` body is sent with Content-Length. An iterator with
    `body_length` is sent with that Content-Length, and a different length is an error; without it, the body is chunked.
    A `fresh` request does not use a pooled connection.
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
    """A response whose head has arrived."""

    @property
    def status(self) -> int:
        """The final status code (1xx responses are skipped)."""

    @property
    def headers(self) -> Headers:
        """The response's fields as received, with framing and hop-by-hop fields; the relay filters them."""

    @property
    def complete(self) -> bool:
        """Whether the whole body has been read, so that the next `read` returns b"" at once."""

    async def read(self) -> bytes:
        """Read the next piece of the body as soon as one arrives, at most 256 KiB; b"" only at a complete end.

        Cancellation loses no data: `read` may be called again, and `close` is still required.

        Raises:
            UpstreamTimeout: nothing arrived for `timeouts.idle` seconds.
            UpstreamDisconnected: the connection ended before the body was complete.
            UpstreamProtocolError: the body's framing is invalid.
        """

    def close(self) -> None:
        """Return the connection to the pool if the body was read to its end, else cut it. Never blocks."""


class Upstream(Protocol):
    """An HTTP/1.1 client with pooled connections."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send a request and wait for the response head. Cancellation cuts the connection.

        Raises:
            ConnectFailed: no connection within `timeouts.connect`; nothing was sent.
            UpstreamTimeout: no head within `timeouts.first_byte` after the request was sent.
            UpstreamDisconnected: the connection ended first; the server may have processed the request.
            UpstreamProtocolError: the head is not valid HTTP/1.1.
            Exception: an error of the body iterator; the connection has been cut.
        """

    def give_up(self, origin: Origin, error: UpstreamError) -> None:
        """Fail every request to an origin whose response has not started; cut their connections."""

    async def aclose(self) -> None:
        """Close every connection."""


class Call(Protocol):
    """A request that was sent, and whose response is polled; the caller must `close` it."""

    status: int
    headers: Headers
    complete: bool
    connect_seconds: float

    def head_arrived(self) -> bool:
        """Return whether `status` and `headers` are available.

        Raises:
            UpstreamError: see `Upstream.send`; the connection has been cut.
            Exception: an error of the body iterator.
        """

    def take(self) -> bytes:
        """Return what has arrived of the body since the last call; b"" if nothing, or if all was taken (`complete`).

        A call that returns nothing starts the timeout `timeouts.idle`.

        Raises:
            UpstreamError: see `UpstreamResponse.read`; raised once everything before it has been taken.
        """

    def give_up(self, error: Exception) -> None:
        """Fail the request and cut its connection, unless the response has started."""

    def close(self) -> None:
        """Return the connection to the pool if the body was taken to its end, else cut it. Never blocks."""


class CallingUpstream(Upstream, Protocol):
    """An `Upstream` that needs no task per exchange."""

    def open(self, request: UpstreamRequest, listener: Callable[[], None]) -> Call:
        """Send a request, on a new connection if none is idle.

        `listener` is called on the head, each piece, the end and a failure, but never from inside `open`.

        Raises:
            ValueError: the request cannot be encoded.
        """
