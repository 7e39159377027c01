"""What one member found out and the others need not find out again.

News are hints with a limited audience: a member that misses some decides by what it sees itself. Each is told once, by
the member that saw it; nobody passes on what it was told.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.speeds import Sample

__all__ = [
    "BreakerClosed",
    "BreakerOpened",
    "FactsChanged",
    "News",
    "SpeedLearned",
    "TokenVerified",
    "read_news",
    "write_news",
]


class BreakerOpened(Struct, frozen=True, tag=True, array_like=True):
    """A server failed too often. `until` is seconds of the monotonic clock, `refused` as in `BreakerState`."""

    server: str
    until: float
    ejections: int
    refused: bool


class BreakerClosed(Struct, frozen=True, tag=True, array_like=True):
    """The request that probed a suspended server succeeded."""

    server: str


class FactsChanged(Struct, frozen=True, tag=True, array_like=True):
    """A server went, came, or holds other models: ask it again."""

    server: str


class SpeedLearned(Struct, frozen=True, tag=True, array_like=True):
    """A finished request said how fast a server is."""

    server: str
    model: CanonicalName
    sample: Sample


class TokenVerified(Struct, frozen=True, tag=True, array_like=True):
    """bcrypt accepted a credential: `key` is its keyed digest, `proof` that a member saw it fit the token's digest.

    Both are made with the group's secret (see `VerifiedTokens`): they tell nothing and cannot be forged without it.
    """

    key: bytes
    token_id: int
    proof: bytes

    def __repr__(self) -> str:
        return f"TokenVerified(token_id={self.token_id})"


News = BreakerOpened | BreakerClosed | FactsChanged | SpeedLearned | TokenVerified

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(News)


def write_news(news: News) -> bytes:
    """News as bytes, for implementations that send them somewhere."""
    return _encoder.encode(news)


def read_news(data: bytes) -> News | None:
    """What `write_news` wrote; None for what no member of this version writes."""
    try:
        news: News = _decoder.decode(data)
    except msgspec.MsgspecError:
        return None
    return news
