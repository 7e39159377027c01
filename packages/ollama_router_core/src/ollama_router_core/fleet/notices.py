"""Changes of a server's state that an operator wants to read in a log."""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName

__all__ = [
    "ModelReturned",
    "ModelSuspended",
    "Notice",
    "ServerDown",
    "ServerLost",
    "ServerReturned",
    "ServerSuspended",
    "ServerUp",
]


class ServerUp(Struct, frozen=True):
    """Its probes are answered; before, they were not, or nothing was known."""

    server: str
    version: str | None


class ServerDown(Struct, frozen=True):
    """Its probes failed."""

    server: str
    error: str


class ServerLost(Struct, frozen=True):
    """Three probes in a row failed: whoever waits there for the first byte of an answer waits in vain."""

    server: str


class ServerSuspended(Struct, frozen=True):
    """Its breaker opened for `seconds`, until a moment of the snapshot's clock; see `BreakerState` for the rest."""

    server: str
    until: float
    seconds: float
    ejections: int
    refused: bool


class ServerReturned(Struct, frozen=True):
    """The request that probed it succeeded: its breaker closed."""

    server: str


class ModelSuspended(Struct, frozen=True):
    """A server cannot serve one of its models, in its own `words`: it is not asked for it for `seconds`."""

    server: str
    model: CanonicalName
    seconds: float
    words: str


class ModelReturned(Struct, frozen=True):
    """It is asked for that model again: it served it, or it is the longest known of too many that are suspended."""

    server: str
    model: CanonicalName


Notice = ServerUp | ServerDown | ServerLost | ServerSuspended | ServerReturned | ModelSuspended | ModelReturned
