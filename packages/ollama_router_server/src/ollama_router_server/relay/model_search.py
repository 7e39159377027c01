"""Looking for models that nobody is known to have: one look for all requests that miss one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ollama_router_server.system import Clock

__all__ = ["ModelSearch"]

_SECONDS = 5.0


class ModelSearch:
    """Asks every server for its models, at most every five seconds; they may have been pulled past the router.

    Args:
        look: starts a look, and returns its task.
        clock: for the seconds.
    """

    def __init__(self, look: Callable[[], asyncio.Task[None]], clock: Clock) -> None:
        self._look = look
        self._clock = clock
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")

    def begin(self) -> bool:
        """Whether a look is on its way, or begins now; `done` tells when it is over."""
        if self._looking is not None and not self._looking.done():
            return True
        now = self._clock.monotonic()
        if now - self._looked_at < _SECONDS:
            return False
        self._looked_at = now
        self._looking = self._look()
        return True

    def done(self) -> asyncio.Future[bool]:
        """Return a future that is True once the look is over, however it ended."""
        over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        looking = self._looking
        if looking is not None:
            looking.add_done_callback(lambda _: None if over.done() else over.set_result(True))
        return over

    def models_changed(self) -> None:
        """Models were made or deleted through the router: the next one that is missed is looked for at once."""
        self._looked_at = float("-inf")
