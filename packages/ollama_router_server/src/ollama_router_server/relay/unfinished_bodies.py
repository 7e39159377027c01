"""What is held of bodies that are still coming, bounded for each user."""

from __future__ import annotations

from collections import Counter

from ollama_router_core.errors import Overloaded

__all__ = ["UnfinishedBodies"]

_LARGEST_BODIES = 4
"""Bodies of the largest size that one user may have half sent."""


class UnfinishedBodies:
    """Bytes by user. What is taken is given back when the body is complete, or its request has ended."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def take(self, user: str, size: int, *, max_body: int) -> None:
        """Count bytes that have come.

        Raises:
            Overloaded: the user would have more unfinished than four bodies of `max_body` bytes; nothing is counted.
        """
        if self._held[user] + size > _LARGEST_BODIES * max_body:
            raise Overloaded("too much of this user's requests is still being sent; finish some first", retry_after=1)
        self._held[user] += size

    def give_back(self, user: str, size: int) -> None:
        """Stop counting them."""
        self._held[user] -= size
        if self._held[user] <= 0:
            del self._held[user]
