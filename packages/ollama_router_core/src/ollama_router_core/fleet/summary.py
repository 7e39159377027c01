"""A summary of one router's fleet state, for a router that has just started.

It contains what takes many requests to learn: speeds, suspensions and cached conversations. Facts of servers are polled
instead. Times are in seconds of the monotonic clock.
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
"""Format version of a summary: routers of different formats ignore each other's."""
MOST_ROWS: Final = 1000
"""Maximum entries each of speeds and conversations: some 100 KB in total."""
_MOST_BYTES = 4 << 20


class Holding(Struct, frozen=True, array_like=True):
    """A server that may have the last turn of a conversation cached, of `tokens` tokens."""

    server: str
    model: CanonicalName
    conversation: int
    tokens: int


class Suspension(Struct, frozen=True, array_like=True):
    """A suspended server, as in `BreakerState`."""

    server: str
    until: float
    ejections: int
    refused: bool


class Summary(Struct, frozen=True, kw_only=True):
    """The shared state; the most recent conversation comes last.

    `addresses` are hashes of servers' addresses, by the names under which all routers count requests.
    """

    speeds: SpeedBook = SpeedBook()
    held: tuple[Holding, ...] = ()
    suspended: tuple[Suspension, ...] = ()
    addresses: dict[str, int] = {}


_encoder = msgspec.msgpack.Encoder(enc_hook=dict)  # an empty mapping is a view
_decoder = msgspec.msgpack.Decoder(Summary)


def write_summary(summary: Summary) -> bytes:
    """Encode a summary as compressed MessagePack."""
    return zlib.compress(_encoder.encode(summary), 1)


def read_summary(data: bytes) -> Summary | None:
    """Decode a summary; None if it is invalid or too long."""
    try:
        reader = zlib.decompressobj()
        text = reader.decompress(data, _MOST_BYTES)
        return _decoder.decode(text)
    except (msgspec.MsgspecError, zlib.error):
        return None


def moved_summary(summary: Summary, seconds: float) -> Summary:
    """Shift the times in a summary by `seconds`, to another machine's clock."""
    suspended = tuple(structs.replace(one, until=one.until + seconds) for one in summary.suspended)
    return structs.replace(summary, suspended=suspended)
