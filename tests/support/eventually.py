"""Waiting for a condition on a running event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import repeat

__all__ = ["eventually", "eventually_async", "settled"]


async def eventually(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Return once the condition holds; `TimeoutError` if it does not in time."""
    pauses = _pauses()
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition of a test, not only one that sets an event
            await asyncio.sleep(next(pauses))


async def eventually_async(condition: Callable[[], Awaitable[bool]], *, seconds: float = 60.0) -> None:
    """As `eventually`, for a condition that has to be awaited."""
    pauses = _pauses()
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - as above
            await asyncio.sleep(next(pauses))


def _pauses() -> Iterator[float]:
    """Look at once, then less and less often: most of what a test waits for takes a millisecond."""
    yield from (0.0, 0.001, 0.002, 0.004)
    yield from repeat(0.01)


async def settled(value: Callable[[], int], *, quiet: float = 0.05, seconds: float = 60.0) -> None:
    """Return once a value that is not 0 has stayed the same for `quiet` seconds."""
    last, since = 0, time.monotonic()
    async with asyncio.timeout(seconds):
        while not last or time.monotonic() - since < quiet:
            await asyncio.sleep(0.01)
            if value() != last:
                last, since = value(), time.monotonic()
