"""Search for unknown models: one poll of the fleet for all requests that miss a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ollama_router_server.system import Clock

__all__ = ["ModelSearch"]

_SECONDS = 5.0


class ModelSearch:
    """Poll every server for its models, at most every five seconds; models may have been pulled without the router.

    Args:
        look: start a poll; returns its task.
        clock: measures the five seconds.
    """

    def __init__(self, look: Callable[[], asyncio.Task[None]], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")

    def begin(self) -> bool:
        """Start a search unless one is running; return False if the last one started less than 5 s ago."""
        if self._looking is not None and not self._looking.done():
            return True
        now = self._clock.monotonic()
        if now - self._looked_at < _SECONDS:
            return False
        self._looked_at = now
        self._looking = self._look()
        return True

    def done(self) -> asyncio.Future[bool]:
        """Return a future that becomes True once the search has ended, whether or not it succeeded."""
        over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        looking = self._looking
        if looking is not None:
            looking.add_done_callback(lambda _: None if over.done() else over.set_result(True))
        return over

    def models_changed(self) -> None:
        """Allow the next search at once: models were created or deleted through the router."""
        self._looked_at = float("-inf")
