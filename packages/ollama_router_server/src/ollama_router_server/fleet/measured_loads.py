"""The memory that models took when loaded, compared with the computed sizes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import Final

from msgspec import Struct

from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.snapshot import ServerFacts
from ollama_router_server.fleet.computed_sizes import ComputedSizes

__all__ = ["MeasuredLoad", "MeasuredLoads"]

_KEPT: Final = 100


class MeasuredLoad(Struct, frozen=True):
    """A model that was loaded: when it was first seen in memory (seconds since 1970), and its bytes."""

    model: str
    context: int | None
    measured: int
    computed: int
    at: float

    @property
    def off(self) -> float:
        """The relative difference between the measured and the computed size."""
        return abs(self.measured / self.computed - 1)


class MeasuredLoads:
    """The last hundred loads per server that this process saw. Not thread-safe.

    Args:
        sizes: computes the expected size of a loaded model.
        wall: return seconds since 1970.
    """

    def __init__(self, sizes: ComputedSizes, wall: Callable[[], float]) -> None:
        self._sizes = sizes
        self._wall = wall
        self._there: dict[str, frozenset[tuple[str, int | None]]] = {}
        self._loads: dict[str, deque[MeasuredLoad]] = {}

    def look(self, facts: ServerFacts, host: Server) -> None:
        """Record the models that a server has loaded since the last call."""
        before, there = self._there.get(facts.name, frozenset()), set()
        for row in facts.loaded.values():
            key = str(row.name), row.context_length
            computed = self._sizes.find(row, facts, host) if row.size else None
            if computed:
                there.add(key)
                if key not in before:
                    self._add(facts.name, MeasuredLoad(*key, row.size, computed, self._wall()))
        self._there[facts.name] = frozenset(there)

    def reconfigure(self, servers: Container[str]) -> None:
        """Forget servers that are not among these: discovery adds and removes them."""
        self._there = {name: there for name, there in self._there.items() if name in servers}
        self._loads = {name: loads for name, loads in self._loads.items() if name in servers}

    def of(self, server: str) -> Sequence[MeasuredLoad]:
        """Return a server's loads, newest first."""
        return tuple(self._loads.get(server, ()))

    def _add(self, server: str, load: MeasuredLoad) -> None:
        self._loads.setdefault(server, deque(maxlen=_KEPT)).appendleft(load)
