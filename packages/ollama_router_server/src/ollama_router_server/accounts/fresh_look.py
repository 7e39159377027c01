"""A look at the database for tokens that the last poll did not know: another process may just have made them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ollama_router_server.system import Clock

__all__ = ["FreshLook"]

_MOST_WAITING = 64
_PAUSE = 0.05
"""Seconds between two looks: junk makes 20 a second at most."""
_LONGEST = 1.0
"""Seconds that a request waits for one."""


class FreshLook:
    """One look for all who wait; of too many the rest is answered from what is known.

    Args:
        refresh: reads whether users have changed, and loads them if so.
        clock: for the pause between looks.
    """

    def __init__(self, refresh: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._refresh, self._clock = refresh, clock
        self._waiting = 0
        self._looking = asyncio.Lock()  # one looks and one waits, however long the database takes
        self._next: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = float("-inf")

    @property
    def has_room(self) -> bool:
        """Whether one more request may wait."""
        return self._waiting < _MOST_WAITING

    async def take(self) -> None:
        """Return once a look that began after this call has ended, however; after a second in any case."""
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
        """End looks that are under way; who waits for one goes on."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        async with self._looking:
            await asyncio.sleep(max(0.0, self._begun + _PAUSE - self._clock.monotonic()))
            self._next, self._begun = None, self._clock.monotonic()
            with suppress(Exception):  # the watch reports what is wrong with the database
                await self._refresh()
