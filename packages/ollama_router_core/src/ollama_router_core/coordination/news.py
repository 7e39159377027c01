"""Findings that one member shares with the others.

News are hints: a member that misses some relies on its own observations. The member that makes a finding sends it
once; receivers do not forward it.
"""

from __future__ import annotations

import zlib
from typing import assert_never

import msgspec
from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.prompts import PromptSize
from ollama_router_core.fleet.rounds import Round, moved_round
from ollama_router_core.fleet.runners import Load
from ollama_router_core.fleet.speeds import Sample

__all__ = [
    "BreakerClosed",
    "BreakerOpened",
    "FactsChanged",
    "LoadBegan",
    "News",
    "PrefixHeld",
    "PromptCounted",
    "PromptKept",
    "RequestEnded",
    "RequestsRefused",
    "ServerPolled",
    "ServerRenamed",
    "SpeedLearned",
    "TokenVerified",
    "TurnsTaken",
    "moved",
    "read_news",
    "write_news",
]


class BreakerOpened(Struct, frozen=True, tag=True, array_like=True):
    """A breaker opened. `until` is in seconds of the monotonic clock, `refused` as in `BreakerState`."""

    server: str
    until: float
    ejections: int
    refused: bool


class BreakerClosed(Struct, frozen=True, tag=True, array_like=True):
    """The request that probed a suspended server succeeded."""

    server: str


class FactsChanged(Struct, frozen=True, tag=True, array_like=True):
    """A server went down or came up: poll it, as it may look different from here."""

    server: str


class ServerPolled(Struct, frozen=True, tag=True, array_like=True):
    """A server that is up was polled; the others need not poll it for now."""

    server: str
    found: Round


class ServerRenamed(Struct, frozen=True, tag=True, array_like=True):
    """A member loaded a config that renames a server; members with the old name count under both names.

    `address` is a hash of the server's address, equal in all members; 0 if absent.
    """

    new: str
    old: str
    address: int = 0


class LoadBegan(Struct, frozen=True, tag=True, array_like=True):
    """A request was sent that makes a server load a model."""

    server: str
    model: CanonicalName
    load: Load


class PrefixHeld(Struct, frozen=True, tag=True, array_like=True):
    """A server answered a turn of a conversation and may have cached its prompt of `tokens` tokens."""

    server: str
    model: CanonicalName
    conversation: int
    tokens: int


class PromptKept(Struct, frozen=True, tag=True, array_like=True):
    """A server reported the share, from 0 to 1, of a conversation's last turn that it had cached."""

    server: str
    model: CanonicalName
    part: float


class SpeedLearned(Struct, frozen=True, tag=True, array_like=True):
    """A finished request gave a speed sample of a server."""

    server: str
    model: CanonicalName
    sample: Sample


class PromptCounted(Struct, frozen=True, tag=True, array_like=True):
    """A server counted the tokens of a prompt of this size."""

    model: CanonicalName
    size: PromptSize
    tokens: int


class TokenVerified(Struct, frozen=True, tag=True, array_like=True):
    """bcrypt accepted a credential: `key` is its keyed digest, `proof` binds it to the token's bcrypt digest.

    Both are made with the group's secret (see `VerifiedTokens`): without it they reveal nothing and cannot be forged.
    """

    key: bytes
    token_id: int
    proof: bytes

    def __repr__(self) -> str:
        return f"TokenVerified(token_id={self.token_id})"


class RequestEnded(Struct, frozen=True, tag=True, array_like=True):
    """A request, possibly at another member, is to be cancelled; `by` is the requesting user."""

    id: str
    by: str


class RequestsRefused(Struct, frozen=True, tag=True, array_like=True):
    """The number of requests that a member refused since its last report, by error code: `refusal_waves.is_refused`."""

    counts: dict[str, int]


class TurnsTaken(Struct, frozen=True, tag=True, array_like=True):
    """Users to whom a member gave slots that several routers wait for, and the time of each user's last one."""

    moments: dict[str, float]


News = (
    BreakerOpened
    | BreakerClosed
    | FactsChanged
    | LoadBegan
    | PrefixHeld
    | PromptKept
    | ServerPolled
    | ServerRenamed
    | SpeedLearned
    | PromptCounted
    | TokenVerified
    | RequestEnded
    | RequestsRefused
    | TurnsTaken
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(News)
_LONG, _MOST = 1024, 16 << 20
"""Size in bytes from which news is compressed, and the maximum after decompression."""
_COMPRESSED = b"\x78"
"""The first byte of a zlib stream; no MessagePack array begins with it."""


def write_news(news: News) -> bytes:
    """Encode news for transfer between processes."""
    data = _encoder.encode(news)
    return data if len(data) < _LONG else zlib.compress(data, 1)


def read_news(data: bytes) -> News | None:
    """Decode news; None for a kind that this version does not know."""
    try:
        if data.startswith(_COMPRESSED):
            data = zlib.decompressobj().decompress(data, _MOST)
        news: News = _decoder.decode(data)
    except (msgspec.MsgspecError, TypeError, zlib.error):  # an option that was a list cannot be in a set
        return None
    return news


def moved(news: News, seconds: float) -> News:
    """Convert the times in news between the clocks of two machines."""
    match news:
        case BreakerOpened():
            return msgspec.structs.replace(news, until=news.until + seconds)
        case ServerPolled():
            return msgspec.structs.replace(news, found=moved_round(news.found, seconds))
        case TurnsTaken():
            return TurnsTaken({user: moment + seconds for user, moment in news.moments.items()})
        case BreakerClosed() | FactsChanged() | LoadBegan() | PrefixHeld() | PromptKept() | SpeedLearned():
            return news
        case PromptCounted() | TokenVerified() | RequestEnded() | RequestsRefused() | ServerRenamed():
            return news
        case _:
            assert_never(news)
