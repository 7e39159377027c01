"""How often somebody may try to sign in: so many times from one address, so many from all together."""

from __future__ import annotations

from collections import Counter

from ollama_router_core.errors import LimitExceeded

__all__ = ["SignInLimits"]


class SignInLimits:
    """Counts attempts in periods; a new one begins when the last is over.

    `now` is any clock that only goes forward, in seconds.

    Args:
        seconds: length of a period.
        of_one: attempts of one address in a period.
        of_all: attempts of all addresses in a period, so that many addresses cannot guess together.
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
            LimitExceeded: there were too many; it says when the next is heard.
        """
        if now - self._begun >= self._seconds:
            self._begun, self._all = now, 0
            self._tried.clear()
        if self._tried[address] >= self._of_one or self._all >= self._of_all:
            left = self._begun + self._seconds - now
            raise LimitExceeded("too many sign-in attempts; wait a minute", retry_after=left)
        self._tried[address] += 1
        self._all += 1
