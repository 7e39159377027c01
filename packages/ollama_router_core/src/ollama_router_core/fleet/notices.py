"""State changes of servers, for the log."""

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
    """The server's probes succeed, after failures or at the start."""

    server: str
    version: str | None


class ServerDown(Struct, frozen=True):
    """The server's probes failed."""

    server: str
    error: str


class ServerLost(Struct, frozen=True):
    """Three probes in a row failed: requests that wait there for a first byte are hopeless."""

    server: str


class ServerSuspended(Struct, frozen=True):
    """The server's breaker opened for `seconds`, `until` a time of the snapshot's clock; see `BreakerState`."""

    server: str
    until: float
    seconds: float
    ejections: int
    refused: bool


class ServerReturned(Struct, frozen=True):
    """The probing request succeeded, and the server's breaker closed."""

    server: str


class ModelSuspended(Struct, frozen=True):
    """A server cannot serve one of its models, with its error text in `words`: suspended for `seconds`."""

    server: str
    model: CanonicalName
    seconds: float
    words: str


class ModelReturned(Struct, frozen=True):
    """The model's suspension ended: the server served it, or the oldest entry was evicted from a full table."""

    server: str
    model: CanonicalName


Notice = ServerUp | ServerDown | ServerLost | ServerSuspended | ServerReturned | ModelSuspended | ModelReturned
