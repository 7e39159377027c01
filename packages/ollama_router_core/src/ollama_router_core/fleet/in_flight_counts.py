"""Requests in flight by server and model, across renames of servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.fleet.snapshot import EMPTY

__all__ = ["InFlightCounts"]


class InFlightCounts:
    """This process's requests in flight, under the server names at the time of sending.

    Attributes:
        by_server: requests by server.
        by_model: requests by server and model; a server's mapping is replaced, never mutated.
        old_names: former names of servers, by current name.
    """

    def __init__(self) -> None:
        self.by_server: dict[str, int] = {}
        self.by_model: dict[str, Mapping[CanonicalName, int]] = {}
        self.old_names: Mapping[str, tuple[str, ...]] = EMPTY

    def rename(self, renamed: Mapping[str, str], names: Collection[str]) -> None:
        """Rename servers: `renamed` maps new names to old ones, `names` are all current names."""
        former = {**self.old_names, **{name: (old, *self.former(old)) for name, old in renamed.items()}}
        self.old_names = {name: tuple(set(olds).difference(names)) for name, olds in former.items() if name in names}

    def former(self, name: str) -> tuple[str, ...]:
        """Return the former names of a server."""
        return self.old_names.get(name, ())

    def begin(self, name: str, model: CanonicalName | None = None) -> None:
        """Count a request for a model as in flight on a server."""
        self.by_server[name] = self.by_server.get(name, 0) + 1
        if model is not None:
            active = self.by_model.get(name, EMPTY)
            self.by_model[name] = {**active, model: active.get(model, 0) + 1}

    def end(self, name: str, model: CanonicalName | None = None) -> int:
        """Count a request as ended; return the number left on the server."""
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
        """Count the requests on a server that were sent under this name."""
        return self.by_server.get(name, 0)

    def beside(self, name: str) -> Mapping[CanonicalName, int]:
        """Return these requests by model; the mapping is replaced, never mutated."""
        return self.by_model.get(name, EMPTY)

    def add_former(self, in_flight: dict[str, int], active: dict[str, Mapping[CanonicalName, int]]) -> None:
        """Add the requests under former names to copies of the counts."""
        for name, old in ((name, old) for name, olds in self.old_names.items() for old in olds if in_flight.get(old)):
            in_flight[name] = in_flight.get(name, 0) + in_flight[old]
            active[name] = Counter(active.get(name, EMPTY)) + Counter(active.get(old, EMPTY))
