"""Counts of each of the last sixty seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ollama_router_core.coordination.shared_limits import MINUTE_SECONDS

__all__ = ["MinuteCounts"]


class MinuteCounts:
    """Counts by name and whole second. Mutable, without a clock."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, Counter[int]] = {}

    def add(self, name: str, second: int, number: int = 1) -> None:
        """Add to the count of a second, which is never below zero; drop seconds a minute older."""
        seconds = self._counts.setdefault(name, Counter())
        seconds[second] = max(0, seconds[second] + number)
        for old in [one for one in seconds if one < second - MINUTE_SECONDS]:
            del seconds[old]

    def replace(self, name: str, numbers: Mapping[int, int]) -> None:
        """Replace the counts of a name."""
        self._counts[name] = Counter(numbers)

    def since(self, name: str, second: int) -> Mapping[int, int]:
        """Return the counts of a name from a second on."""
        return {one: count for one, count in self._counts.get(name, {}).items() if one >= second}

    def minute(self, name: str, second: int) -> Mapping[int, int]:
        """Return the counts of the minute that ends with a second."""
        return self.since(name, second - MINUTE_SECONDS)
