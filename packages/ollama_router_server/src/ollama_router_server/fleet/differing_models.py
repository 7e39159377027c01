"""Model names under which servers hold different weights; recomputed only when a list has changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.routing.model_placement import differing_digests

__all__ = ["DifferingModels"]

_Lists = tuple[Mapping[CanonicalName, object] | None, ...]


class DifferingModels:
    """The result is cached while every server's list is the same object."""

    def __init__(self) -> None:
        self._lists: _Lists = ()
        self._found: Collection[CanonicalName] = ()

    def find(self, servers: Mapping[str, ServerFacts]) -> Collection[CanonicalName]:
        """Return the names under which servers hold different weights."""
        lists: _Lists = tuple([facts.installed for facts in servers.values()])
        same = len(lists) == len(self._lists)
        if not same or any(new is not old for new, old in zip(lists, self._lists, strict=True)):
            self._lists, self._found = lists, frozenset(differing_digests(FleetSnapshot(servers=servers)))
        return self._found
