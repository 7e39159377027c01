"""Bands of times, each 10 % wider than the previous one: percentiles of many values from few counts."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from typing import Final

__all__ = ["band_of", "percentile_ms"]

_WIDTH: Final = log(1.1)
_LONGEST: Final = 400
"""The last band, over a year in milliseconds."""


def band_of(ms: float) -> int:
    """Return the number of a time's band; times below a millisecond are in the first."""
    return min(int(log(ms) / _WIDTH), _LONGEST) if ms > 1.0 else 0


def percentile_ms(counts: Mapping[int, int], percent: int) -> float | None:
    """Return the percentile `percent` in milliseconds (nearest rank), within 5 %; None without values."""
    left = -(-sum(counts.values()) * percent // 100)
    for band in sorted(counts):
        left -= counts[band]
        if left <= 0:
            return exp((band + 0.5) * _WIDTH)
    return None
