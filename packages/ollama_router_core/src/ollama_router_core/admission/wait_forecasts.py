"""Recent errors of expected waits, and the range that they imply for the next wait."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["WaitForecasts"]

_KEPT: Final = 200
_LEAST: Final = 20
"""Minimum number of ended waits for a range."""
_SHORTEST: Final = 0.5
"""Minimum expected wait in seconds to be recorded: shorter expectations are mostly rounding."""
_OUTSIDE: Final = 0.1
"""Share of the waits excluded from the range on each side."""


class WaitForecasts:
    """The ratios of actual to expected waits, of the last 200 waits."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=_KEPT)

    def ended(self, expected: float, waited: float) -> None:
        """Record that a wait with `expected` seconds announced ended with a server after `waited` seconds."""
        if expected >= _SHORTEST:
            self._ratios.append(max(waited, 0.0) / expected)

    def range(self, expected: float) -> tuple[float, float]:
        """Return the range in seconds that contains eight of ten such waits; `expected` twice without enough waits."""
        if len(self._ratios) < _LEAST:
            return expected, expected
        ratios = sorted(self._ratios)
        beside = int(len(ratios) * _OUTSIDE)
        return expected * ratios[beside], expected * ratios[-1 - beside]
