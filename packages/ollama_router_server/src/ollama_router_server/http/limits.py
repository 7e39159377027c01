"""How much and how long a client may take on one connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["USUAL_BOUNDS", "Bounds", "ProtocolLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolLimits:
    """Bounds of one connection; sizes in bytes, times in seconds.

    Attributes:
        header_bytes: request line and fields, with line ends; also framing and trailers without body bytes.
        header_lines: fields in a head.
        target_bytes: the request target.
        header_timeout: from a connection's, or a later request's, first byte to the end of the head.
        body_idle: silence within a body; also how long a body that nobody wants any more may still come.
        write_stall: for so long a client that does not keep up with an answer may take less than `write_rate`.
        write_rate: bytes a second that a client has to take on average over `write_stall`.
        linger: after a refusal, what the client still sends is thrown away for this long, so that it can read
            why instead of getting a reset.
    """

    header_bytes: int = 32 * 1024
    header_lines: int = 100
    target_bytes: int = 8 * 1024
    header_timeout: float = 10.0
    body_idle: float = 30.0
    write_stall: float = 60.0
    write_rate: int = 512
    linger: float = 1.0


@dataclass(slots=True)
class Bounds:
    """The limits of all connections of one front; others may be put in their place, and hold at once."""

    limits: ProtocolLimits


USUAL_BOUNDS: Final = Bounds(ProtocolLimits())
