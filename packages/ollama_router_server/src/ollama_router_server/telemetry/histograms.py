"""Cheap histograms: an observation is a search in a short tuple and two additions."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Final

__all__ = ["DECIDING", "SECONDS", "Histogram"]

SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Buckets for the duration of requests, in seconds."""

DECIDING: Final = (0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.1)
"""Buckets for the router's own work, in seconds."""


class Histogram:
    """The number of values per bucket, and their sum. Not thread-safe."""

    __slots__ = ("_counts", "_limits", "total")

    def __init__(self, limits: tuple[float, ...] = SECONDS) -> None:
        self._limits = limits
        self._counts = [0] * (len(limits) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._limits, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return each upper bound as Prometheus writes it, with the number of values within it."""
        names = [*map(str, map(float, self._limits)), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))
