"""Bytes of request bodies in transit, bounded per user."""

from __future__ import annotations

from collections import Counter

from ollama_router_core.errors import Overloaded

__all__ = ["UnfinishedBodies"]

_LARGEST_BODIES = 4
"""The bound per user, in bodies of the maximum size."""


class UnfinishedBodies:
    """Bytes by user. `give_back` them when the body is complete or its request has ended."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def take(self, user: str, size: int, *, max_body: int) -> None:
        """Count bytes that have arrived.

        Raises:
            Overloaded: the user would exceed four unfinished bodies of `max_body` bytes; the bytes are not counted.
        """
        if self._held[user] + size > _LARGEST_BODIES * max_body:
            raise Overloaded("too much of this user's requests is still being sent; finish some first", retry_after=1)
        self._held[user] += size

    def give_back(self, user: str, size: int) -> None:
        """Stop counting bytes."""
        self._held[user] -= size
        if self._held[user] <= 0:
            del self._held[user]
