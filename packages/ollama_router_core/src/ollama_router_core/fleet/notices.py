"""Changes of a server's state that an operator wants to read in a log."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Notice", "ServerDown", "ServerReturned", "ServerSuspended", "ServerUp"]


class ServerUp(Struct, frozen=True):
    """Its probes are answered; before, they were not, or nothing was known."""

    server: str
    version: str | None


class ServerDown(Struct, frozen=True):
    """Its probes failed."""

    server: str
    error: str


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


Notice = ServerUp | ServerDown | ServerSuspended | ServerReturned
