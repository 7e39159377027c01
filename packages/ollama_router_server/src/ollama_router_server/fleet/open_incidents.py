"""A process's open incidents, which it renews, and ends when it stops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from ollama_router_server.storage.incident_changes import (
    Began,
    Change,
    Ended,
    IncidentKey,
    Reconfigured,
    Started,
    Stopped,
)

__all__ = ["OpenIncidents"]


class OpenIncidents:
    """Track the changes of one process, including those that the queue had no room for."""

    def __init__(self) -> None:
        self._keys: frozenset[IncidentKey] = frozenset()

    def __iter__(self) -> Iterator[IncidentKey]:
        return iter(self._keys)

    def follow(self, change: Change) -> None:
        """Add incidents that begin, and remove those that end."""
        match change:
            case Began(kind=kind, server=server, model=model):
                self._keys |= {IncidentKey(kind, server, model)}
            case Ended():
                self._keys = frozenset(key for key in self._keys if not _ends(change, key))
            case Reconfigured(servers=servers):
                self._keys = frozenset(key for key in self._keys if not key.server or key.server in servers)
            case Started() | Stopped():
                pass
            case _:
                assert_never(change)


def _ends(change: Ended, key: IncidentKey) -> bool:
    same = (key.kind, key.server) == (change.kind, change.server)
    return same and change.model in {None, key.model}
