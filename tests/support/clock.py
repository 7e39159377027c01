"""Time that passes when a test says so."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FakeClock"]


@dataclass
class FakeClock:
    """Both clocks of the router, moved by hand."""

    now: float = 1_000.0
    epoch: float = 1_700_000_000.0

    def monotonic(self) -> float:
        """Seconds, as set."""
        return self.now

    def wall(self) -> float:
        """Seconds since 1970, moving along with `now`."""
        return self.epoch + self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
