"""A quota of refusals logged in full, per origin and period; the rest are counted."""

from __future__ import annotations

from collections import Counter
from typing import Final

__all__ = ["OTHERS", "RefusalQuota"]

OTHERS: Final = "(others)"
"""The name for all origins beyond the limit."""


class RefusalQuota:
    """Count refusals by origin in fixed periods, and the suppressed ones until they are reported.

    `now` is seconds of a monotonic clock.

    Args:
        seconds: length of a period.
        of_one: maximum logged per origin and period.
        of_all: maximum logged per period.
        origins: maximum number of distinct origins per period.
    """

    __slots__ = ("_begun", "_left_out", "_of_all", "_of_one", "_origins", "_seconds", "_seen", "_written")

    def __init__(self, *, seconds: float = 10.0, of_one: int = 5, of_all: int = 100, origins: int = 1_000) -> None:
        self._seconds = seconds
        self._of_one = of_one
        self._of_all = of_all
        self._origins = origins
        self._begun = float("-inf")
        self._seen: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._written = 0

    def take(self, origin: str, now: float) -> bool:
        """Return whether to log this refusal; otherwise count it."""
        if now - self._begun >= self._seconds:
            self._begun, self._written = now, 0
            self._seen.clear()
        origin = origin if origin in self._seen or len(self._seen) < self._origins else OTHERS
        self._seen[origin] += 1
        if self._seen[origin] <= self._of_one and self._written < self._of_all:
            self._written += 1
            return True
        self._left_out[origin] += 1
        return False

    @property
    def pending(self) -> bool:
        """Whether there are suppressed refusals that have not been reported."""
        return bool(self._left_out)

    def left_out(self, now: float) -> dict[str, int]:
        """Return and reset the numbers of suppressed refusals by origin, once the period is over."""
        if now - self._begun < self._seconds:
            return {}
        found, self._left_out = dict(self._left_out), Counter()
        return found
