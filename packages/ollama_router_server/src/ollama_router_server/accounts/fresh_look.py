"""A database lookup for tokens unknown at the last poll: another process may have just created them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ollama_router_server.system import Clock

__all__ = ["FreshLook"]

_MOST_WAITING = 64
_PAUSE = 0.05
"""Minimum seconds between two lookups: junk causes at most 20 a second."""
_LONGEST = 1.0
"""Maximum seconds that a request waits for a lookup."""


class FreshLook:
    """One lookup for all waiting requests; if too many wait, the rest are decided from what is known.

    Args:
        refresh: read whether users have changed, and load them if so.
        clock: measures the pause between lookups.
    """

    def __init__(self, refresh: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._refresh, self._clock = refresh, clock
        self._waiting = 0
        self._looking = asyncio.Lock()  # one lookup runs and one waits, however long the database takes
        self._next: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = float("-inf")

    @property
    def has_room(self) -> bool:
        """Return whether another request may wait."""
        return self._waiting < _MOST_WAITING

    async def take(self) -> None:
        """Return once a lookup started after this call has ended, whether or not it succeeded; after at most 1 s."""
        if self._next is None:
            self._next = asyncio.create_task(self._look(), name="fresh-look")
            self._tasks.add(self._next)
            self._next.add_done_callback(self._tasks.discard)
        self._waiting += 1
        try:
            await asyncio.wait({self._next}, timeout=_LONGEST)
        finally:
            self._waiting -= 1

    async def aclose(self) -> None:
        """Cancel lookups in progress; waiting requests continue."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        async with self._looking:
            await asyncio.sleep(max(0.0, self._begun + _PAUSE - self._clock.monotonic()))
            self._next, self._begun = None, self._clock.monotonic()
            with suppress(Exception):  # the poll reports database errors
                await self._refresh()
