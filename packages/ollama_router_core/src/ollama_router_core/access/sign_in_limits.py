"""Rate limits of sign-in attempts, per address and in total."""

from __future__ import annotations

from collections import Counter

from ollama_router_core.errors import LimitExceeded

__all__ = ["SignInLimits"]


class SignInLimits:
    """Count attempts in fixed windows.

    `now` is seconds of a monotonic clock.

    Args:
        seconds: length of a window.
        of_one: attempts of one address in a window.
        of_all: attempts of all addresses in a window, against distributed guessing.
    """

    def __init__(self, *, seconds: float = 60.0, of_one: int = 10, of_all: int = 60) -> None:
        self._seconds = seconds
        self._of_one = of_one
        self._of_all = of_all
        self._begun = float("-inf")
        self._tried: Counter[str | None] = Counter()
        self._all = 0

    def attempt(self, address: str | None, now: float) -> None:
        """Count an attempt.

        Raises:
            LimitExceeded: the limit is reached; `retry_after` is the time to the next window in seconds.
        """
        if now - self._begun >= self._seconds:
            self._begun, self._all = now, 0
            self._tried.clear()
        if self._tried[address] >= self._of_one or self._all >= self._of_all:
            left = self._begun + self._seconds - now
            raise LimitExceeded("too many sign-in attempts; wait a minute", retry_after=left)
        self._tried[address] += 1
        self._all += 1
