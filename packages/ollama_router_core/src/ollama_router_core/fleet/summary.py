"""What one router believes of a fleet, in short, for another one that has just come.

Speeds, suspensions and which server holds which conversation take many requests to learn; facts of servers are asked
for anew. Moments are seconds of the monotonic clock.
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec
from msgspec import Struct, structs

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.speeds import SpeedBook

__all__ = ["FORMAT", "MOST_ROWS", "Holding", "Summary", "Suspension", "moved_summary", "read_summary", "write_summary"]

FORMAT: Final = "1"
"""Changes with what a summary is made of: routers of two releases do not read each other's."""
MOST_ROWS: Final = 1000
"""Speeds of models on servers, and conversations, at most: some 100 KB in all."""
_MOST_BYTES = 4 << 20


class Holding(Struct, frozen=True, array_like=True):
    """A server may hold the last turn of a conversation, of so many tokens."""

    server: str
    model: CanonicalName
    conversation: int
    tokens: int


class Suspension(Struct, frozen=True, array_like=True):
    """A server is suspended, as in `BreakerState`."""

    server: str
    until: float
    ejections: int
    refused: bool


class Summary(Struct, frozen=True, kw_only=True):
    """What is worth telling; the conversation that was answered last comes last.

    `addresses` are hashes of servers' addresses, by the names under which all count what runs there.
    """

    speeds: SpeedBook = SpeedBook()
    held: tuple[Holding, ...] = ()
    suspended: tuple[Suspension, ...] = ()
    addresses: dict[str, int] = {}


_encoder = msgspec.msgpack.Encoder(enc_hook=dict)  # an empty mapping is a view
_decoder = msgspec.msgpack.Decoder(Summary)


def write_summary(summary: Summary) -> bytes:
    """Encode a summary, for implementations between processes."""
    return zlib.compress(_encoder.encode(summary), 1)


def read_summary(data: bytes) -> Summary | None:
    """Decode a summary; None for what is none, or longer than any."""
    try:
        reader = zlib.decompressobj()
        text = reader.decompress(data, _MOST_BYTES)
        return _decoder.decode(text)
    except (msgspec.MsgspecError, zlib.error):
        return None


def moved_summary(summary: Summary, seconds: float) -> Summary:
    """Translate the moments in a summary between the clocks of two machines."""
    suspended = tuple(structs.replace(one, until=one.until + seconds) for one in summary.suspended)
    return structs.replace(summary, suspended=suspended)
