"""Requests in flight by server and model, also of servers that had another name when these began."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.snapshot import EMPTY

__all__ = ["InFlightCounts"]


class InFlightCounts:
    """What this process has at its servers, under the names that these had when it was sent.

    Attributes:
        by_server: requests by server.
        by_model: the same by server and model; a server's mapping is replaced, never changed.
        old_names: the names that servers had before, by those that they have now.
    """

    def __init__(self) -> None:
        self.by_server: dict[str, int] = {}
        self.by_model: dict[str, Mapping[CanonicalName, int]] = {}
        self.old_names: Mapping[str, tuple[str, ...]] = EMPTY

    def rename(self, renamed: Mapping[str, str], names: Collection[str]) -> None:
        """Take in that servers have other names, `renamed` by those that they had; `names` are all there are now."""
        former = {**self.old_names, **{name: (old, *self.former(old)) for name, old in renamed.items()}}
        self.old_names = {name: tuple(set(olds).difference(names)) for name, olds in former.items() if name in names}

    def former(self, name: str) -> tuple[str, ...]:
        """Return the names that a server had before."""
        return self.old_names.get(name, ())

    def begin(self, name: str, model: CanonicalName | None = None) -> None:
        """Count a request that goes to a server, for a model."""
        self.by_server[name] = self.by_server.get(name, 0) + 1
        if model is not None:
            active = self.by_model.get(name, EMPTY)
            self.by_model[name] = {**active, model: active.get(model, 0) + 1}

    def end(self, name: str, model: CanonicalName | None = None) -> int:
        """Count it out; returns how many are left at the server."""
        left = self.by_server[name] = self.by_server[name] - 1
        if model is not None:
            active = {**self.by_model[name]}
            if active[model] > 1:
                active[model] -= 1
            else:
                del active[model]
            self.by_model[name] = active
        return left

    def running(self, name: str) -> int:
        """Count the requests on a server, of those that began under this name."""
        return self.by_server.get(name, 0)

    def beside(self, name: str) -> Mapping[CanonicalName, int]:
        """Count them by their models; the mapping is replaced, never changed."""
        return self.by_model.get(name, EMPTY)

    def add_former(self, in_flight: dict[str, int], active: dict[str, Mapping[CanonicalName, int]]) -> None:
        """Add to copies of the counts what runs at a server since it had another name."""
        for name, old in ((name, old) for name, olds in self.old_names.items() for old in olds if in_flight.get(old)):
            in_flight[name] = in_flight.get(name, 0) + in_flight[old]
            active[name] = Counter(active.get(name, EMPTY)) + Counter(active.get(old, EMPTY))
