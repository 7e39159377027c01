"""Times in bands, each a tenth longer than the one before: percentiles of many by few numbers."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from typing import Final

__all__ = ["band_of", "percentile_ms"]

_WIDTH: Final = log(1.1)
_LONGEST: Final = 400
"""More than a year of milliseconds."""


def band_of(ms: float) -> int:
    """Return the number of a time's band; times below a millisecond are in the first."""
    return min(int(log(ms) / _WIDTH), _LONGEST) if ms > 1.0 else 0


def percentile_ms(counts: Mapping[int, int], percent: int) -> float | None:
    """Return the time that so many of 100 stay within (nearest rank), to 5 in 100; None without any."""
    left = -(-sum(counts.values()) * percent // 100)
    for band in sorted(counts):
        left -= counts[band]
        if left <= 0:
            return exp((band + 0.5) * _WIDTH)
    return None
