"""Expected memory of loaded models, cached: a page of 200 servers reads a thousand sizes each time."""

from __future__ import annotations

from typing import Final, NamedTuple

from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.memory.estimates import placed_memory
from ollama_router_core.fleet.snapshot import InstalledModel, LoadedModel, ServerFacts

__all__ = ["ComputedSizes"]

_MOST: Final = 10_000


class _Computed(NamedTuple):
    installed: InstalledModel
    context: int
    host: Server
    size: int


class ComputedSizes:
    """Sizes by server and model, cached while their inputs are unchanged."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], _Computed] = {}

    def find(self, row: LoadedModel, facts: ServerFacts, host: Server) -> int | None:
        """Return the expected bytes for the model's architecture and context; None if either is unknown."""
        installed, context = (facts.installed or {}).get(row.name), row.context_length
        if installed is None or installed.facts is None or context is None:
            return None
        key = facts.name, str(row.name)
        kept = self._found.get(key)
        if kept is not None and kept.installed is installed and kept.context == context and kept.host is host:
            return kept.size
        if len(self._found) >= _MOST:
            self._found.clear()
        size = placed_memory(installed, context, host).size
        self._found[key] = _Computed(installed, context, host, size)
        return size
