"""Limits of a client connection: sizes, rates and times."""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

from ollama_router_server.http.connection_caps import ConnectionCaps

__all__ = ["USUAL_BOUNDS", "Bounds", "ProtocolLimits"]


class ProtocolLimits(Struct, frozen=True, kw_only=True):
    """Limits of client connections; sizes in bytes, times in seconds.

    Attributes:
        header_bytes: the request line and all fields with their line ends; also the framing and trailers of a body.
        header_lines: the number of fields in a head.
        target_bytes: the request target.
        header_timeout: from accepting a connection, or the first byte of a later request, to the end of the head.
        body_idle: silence within a body; also the time for the rest of a body after its response.
        write_stall: the period over which a slow client's read rate is measured.
        write_rate: bytes per second that a slow client has to acknowledge over `write_stall`.
        connections: open connections in total.
        connections_of_one: open connections per address.
        linger: how long the client's data is discarded after a refusal before the connection is closed, so that the
            client receives the refusal and not a reset.
    """

    header_bytes: int = 32 * 1024
    header_lines: int = 100
    target_bytes: int = 8 * 1024
    header_timeout: float = 10.0
    body_idle: float = 30.0
    write_stall: float = 60.0
    write_rate: int = 512
    linger: float = 1.0
    connections: int = 16_384
    connections_of_one: int = 1_024


class Bounds(Struct):
    """The limits and the open connections of one front; a change of `limits` takes effect at once.

    While `retiring`, each connection closes after its next response.
    """

    limits: ProtocolLimits
    caps: ConnectionCaps = field(default_factory=ConnectionCaps)
    retiring: bool = False


USUAL_BOUNDS: Final = Bounds(ProtocolLimits())
