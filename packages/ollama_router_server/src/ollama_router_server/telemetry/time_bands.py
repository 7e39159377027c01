"""Bands of times, each 10 % wider than the previous one: percentiles of many values from few counts."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log
from typing import Final

__all__ = ["band_of", "nearest_rank", "percentile_ms"]

_WIDTH: Final = log(1.1)
_LONGEST: Final = 400
"""The last band, over a year in milliseconds."""


def band_of(ms: float) -> int:
    """Return the number of a time's band; times below a millisecond are in the first."""
    return min(int(log(ms) / _WIDTH), _LONGEST) if ms > 1.0 else 0


def percentile_ms(counts: Mapping[int, int], percent: int) -> float | None:
    """Return the percentile `percent` in milliseconds (nearest rank), within 5 %; None without values."""
    band = nearest_rank(counts, percent)
    return None if band is None else exp((band + 0.5) * _WIDTH)


def nearest_rank(counts: Mapping[int, int], percent: int) -> int | None:
    """Return the percentile `percent` of counted values (nearest rank); None without values."""
    left = -(-sum(counts.values()) * percent // 100)
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return None
