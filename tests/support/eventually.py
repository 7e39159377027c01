"""Waiting for a condition on a running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["eventually"]


async def eventually(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Return once the condition holds; `TimeoutError` if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - any condition of a test, not only one that sets an event
            await asyncio.sleep(0.01)
