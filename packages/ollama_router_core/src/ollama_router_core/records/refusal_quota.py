"""How many refusals are written in full: so many of one origin in a period, the others as a count."""

from __future__ import annotations

from collections import Counter
from typing import Final

__all__ = ["OTHERS", "RefusalQuota"]

OTHERS: Final = "(others)"
"""Stands for all origins beyond the number that is remembered."""


class RefusalQuota:
    """Counts by origin within a period; the next period begins with what was left out of the last.

    `now` is any clock that only goes forward, in seconds.

    Args:
        seconds: length of a period.
        of_one: written of one origin in a period.
        of_all: written in a period; one origin cannot use up what others need.
        origins: remembered in a period.
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
        """Tell whether this refusal is written; if not, it is counted."""
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
        """Whether anything was left out that nobody has asked for yet."""
        return bool(self._left_out)

    def left_out(self, now: float) -> dict[str, int]:
        """Return, once the period is over, how many were left out, by origin; and forget them."""
        if now - self._begun < self._seconds:
            return {}
        found, self._left_out = dict(self._left_out), Counter()
        return found
