"""The clock of the common store, estimated from this process's clock."""

from __future__ import annotations

from typing import Final

from ollama_router_server.system import Clock

__all__ = ["StoreClock"]

_BELIEVED_SECONDS: Final = 10.0
"""Seconds for which the offset from the fastest exchange is used."""
_NEVER: Final = 10**15
"""A time in milliseconds since 1970 after all others."""
_NO_MOMENT: Final = -1


class StoreClock:
    """Convert between this process's monotonic seconds and the store's time.

    Attributes:
        offset: the store's clock minus this process's, in seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self.now = clock.monotonic
        self.offset = 0.0
        self._within, self._until = float("inf"), float("-inf")

    def learn(self, milliseconds: float, sent: float, *, anew: bool) -> None:
        """Learn the offset from a reading taken between `sent` and now, if the exchange was faster or `anew`."""
        now = self.now()
        if now - sent <= self._within or now >= self._until or anew:
            self.offset = milliseconds / 1000 - (sent + now) / 2
            self._within, self._until = now - sent, now + _BELIEVED_SECONDS

    def second(self, at: float) -> int:
        """Return the store's second of a time."""
        return int(at + self.offset)

    def middle_of(self, second: int) -> float:
        """Return the middle of a store's second, which stays in that second when the offset changes slightly."""
        return second + 0.5 - self.offset

    def milliseconds(self, at: float | None) -> int:
        """Return a time in the store's milliseconds; -1 for None."""
        return _NO_MOMENT if at is None else int(min((at + self.offset) * 1000, _NEVER))

    def moment(self, milliseconds: float) -> float:
        """Return the time of the store's milliseconds."""
        return milliseconds / 1000 - self.offset
