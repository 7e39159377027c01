"""What was counted in each of the last sixty seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ollama_router_core.coordination.shared_limits import MINUTE_SECONDS

__all__ = ["MinuteCounts"]


class MinuteCounts:
    """Numbers by name and whole second. Mutable, and without a clock."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, Counter[int]] = {}

    def add(self, name: str, second: int, number: int = 1) -> None:
        """Add to the number of a second, which is never below zero; seconds that are a minute older are forgotten."""
        seconds = self._counts.setdefault(name, Counter())
        seconds[second] = max(0, seconds[second] + number)
        for old in [one for one in seconds if one < second - MINUTE_SECONDS]:
            del seconds[old]

    def replace(self, name: str, numbers: Mapping[int, int]) -> None:
        """Set what is known of a name."""
        self._counts[name] = Counter(numbers)

    def since(self, name: str, second: int) -> Mapping[int, int]:
        """Return the numbers of a name from a second on."""
        return {one: count for one, count in self._counts.get(name, {}).items() if one >= second}

    def minute(self, name: str, second: int) -> Mapping[int, int]:
        """Return the numbers of the minute that ends with a second."""
        return self.since(name, second - MINUTE_SECONDS)
