"""How far expected waits were off of late, and so between which times the next one will end."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["WaitForecasts"]

_KEPT: Final = 200
_LEAST: Final = 20
"""Waits that have to be over before their spread says anything."""
_SHORTEST: Final = 0.5
"""Seconds: shorter waits say nothing about longer ones, as what was expected of them is mostly rounding."""
_OUTSIDE: Final = 0.1
"""Share of the waits on each side that is left outside the range."""


class WaitForecasts:
    """The last 200 waits beside what was expected of them."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=_KEPT)

    def ended(self, expected: float, waited: float) -> None:
        """Note that a wait of which `expected` seconds were told ended after `waited` seconds with a server."""
        if expected >= _SHORTEST:
            self._ratios.append(max(waited, 0.0) / expected)

    def range(self, expected: float) -> tuple[float, float]:
        """Seconds between which eight of ten such waits ended; `expected` for both where too few are known."""
        if len(self._ratios) < _LEAST:
            return expected, expected
        ratios = sorted(self._ratios)
        beside = int(len(ratios) * _OUTSIDE)
        return expected * ratios[beside], expected * ratios[-1 - beside]
