"""Recent request rates by model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from ollama_router_core.api.model_names import CanonicalName

__all__ = ["ArrivalRates"]

_MOST = 4096
_WINDOW = 120.0


class ArrivalRates:
    """Arrivals per second by model, averaged over an exponential window of two minutes."""

    def __init__(self) -> None:
        self._seen: dict[CanonicalName, tuple[float, float]] = {}

    def arrived(self, model: CanonicalName, now: float, weight: float = 1.0) -> None:
        """Count one request, or `weight` of one."""
        if model not in self._seen and len(self._seen) >= _MOST:
            self._seen.pop(min(self._seen, key=lambda name: self.rate(name, now)))
        self._seen[model] = (self._count(model, now) + weight, now)

    def rate(self, model: CanonicalName, now: float) -> float:
        """Return a model's requests per second."""
        return self._count(model, now) / _WINDOW

    def rates(self, now: float) -> Mapping[CanonicalName, float]:
        """Return all rates, for `FleetSnapshot.demand`, each computed on access."""
        return _Rates(self, self._seen, now)

    def _count(self, model: CanonicalName, now: float) -> float:
        count, at = self._seen.get(model, (0.0, now))
        return count * math.exp((at - now) / _WINDOW)


class _Rates(Mapping[CanonicalName, float]):
    """A lazy view: a decision reads demand only if it would evict a model."""

    __slots__ = ("_now", "_seen", "_source")

    def __init__(self, source: ArrivalRates, seen: Mapping[CanonicalName, tuple[float, float]], now: float) -> None:
        self._source = source
        self._seen = seen
        self._now = now

    def __getitem__(self, model: CanonicalName) -> float:
        if model not in self._seen:
            raise KeyError(model)
        return self._source.rate(model, self._now)

    def __iter__(self) -> Iterator[CanonicalName]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)
