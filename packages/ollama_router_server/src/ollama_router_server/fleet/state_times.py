"""The times since which servers are in their states, for lists of servers."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import assert_never

from ollama_router_core.fleet.notices import (
    ModelReturned,
    ModelSuspended,
    Notice,
    ServerDown,
    ServerLost,
    ServerReturned,
    ServerSuspended,
    ServerUp,
)

__all__ = ["StateTimes"]


class StateTimes:
    """When states began, as seen by this process or reported to it. Not thread-safe.

    Args:
        wall: return seconds since 1970.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._began: dict[tuple[str, str], float] = {}

    def notice(self, notice: Notice) -> None:
        """Note a change of a server's state."""
        match notice:
            case ServerUp(server) | ServerReturned(server):
                self._came_up(server)
            case ServerDown(server):
                self._begin(server, "down")
            case ServerSuspended(server):
                self._begin(server, "suspended")
            case ServerLost() | ModelSuspended() | ModelReturned():
                pass
            case _:
                assert_never(notice)

    def drained(self, server: str, *, on: bool) -> None:
        """Note that a drain started or ended; a repeated drain keeps its start."""
        if not on:
            drained = self._began.pop((server, "draining"), None)
            if drained is not None and not {(server, "down"), (server, "suspended")} & self._began.keys():
                self._begin(server, "up")
        elif (server, "draining") not in self._began:
            self._begin(server, "draining")

    def drained_since(self, server: str, began: float) -> None:
        """Set the start of a drain that another process saw begin, in seconds since 1970."""
        self._began[server, "draining"] = began

    def reconfigure(self, servers: Container[str]) -> None:
        """Forget servers that are not among these."""
        self._began = {key: at for key, at in self._began.items() if key[0] in servers}

    def since(self, server: str, state: str) -> float | None:
        """Return when a server's current state began, in seconds since 1970; None if that was not seen."""
        return self._began.get((server, state))

    def _came_up(self, server: str) -> None:
        """Begin only if the server was seen down or suspended: one found up may have been so for long."""
        away = [self._began.pop((server, other), None) for other in ("down", "suspended")]
        self._began.pop((server, "up"), None)
        if any(began is not None for began in away):
            self._begin(server, "up")

    def _begin(self, server: str, state: str) -> None:
        if state != "up":
            self._began.pop((server, "up"), None)
        self._began[server, state] = self._wall()
