"""The clock of the store that all members have in common, told by this process's own."""

from __future__ import annotations

from typing import Final

from ollama_router_server.system import Clock

__all__ = ["StoreClock"]

_BELIEVED_SECONDS: Final = 10.0
"""Seconds for which the difference of two clocks is believed as the quickest exchange told it."""
_NEVER: Final = 10**15
"""A moment in milliseconds since 1970 before which all others are."""
_NO_MOMENT: Final = -1


class StoreClock:
    """Moments of this process are seconds of its monotonic clock; those of the store are as its script reads them.

    Attributes:
        offset: seconds of the store's clock less those of this process's.
    """

    def __init__(self, clock: Clock) -> None:
        self.now = clock.monotonic
        self.offset = 0.0
        self._within, self._until = float("inf"), float("-inf")

    def learn(self, milliseconds: float, sent: float, *, anew: bool) -> None:
        """Learn the difference from what was read between `sent` and now, where that was quicker or all is `anew`."""
        now = self.now()
        if now - sent <= self._within or now >= self._until or anew:
            self.offset = milliseconds / 1000 - (sent + now) / 2
            self._within, self._until = now - sent, now + _BELIEVED_SECONDS

    def second(self, at: float) -> int:
        """Return the store's second of a moment."""
        return int(at + self.offset)

    def middle_of(self, second: int) -> float:
        """Return a moment that is in a second of the store's still when the clocks are compared anew."""
        return second + 0.5 - self.offset

    def milliseconds(self, at: float | None) -> int:
        """Return a moment in the store's milliseconds; one of its own for None."""
        return _NO_MOMENT if at is None else int(min((at + self.offset) * 1000, _NEVER))

    def moment(self, milliseconds: float) -> float:
        """Return the moment of the store's milliseconds."""
        return milliseconds / 1000 - self.offset
