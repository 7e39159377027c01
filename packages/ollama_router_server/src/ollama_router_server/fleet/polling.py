"""Poll servers by the current config: each change of the config creates a new health checker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ollama_router_core.config.settings import Config
from ollama_router_server.fleet.health_checker import START_SECONDS, HealthChecker

__all__ = ["Polling"]


class Polling:
    """The current health checker.

    Args:
        config: the first config.
        make: create a health checker for a config.

    Attributes:
        checker: replaced by `reconfigure`.
    """

    def __init__(self, config: Config, make: Callable[[Config], HealthChecker]) -> None:
        self._make = make
        self.checker = make(config)
        self._starting: asyncio.Task[None] | None = None
        self._patience = START_SECONDS

    async def start(self, patience: float) -> None:
        """Start. Returns once every server has answered or failed, after at most `patience` seconds."""
        self._patience = patience
        await self.checker.start(patience)

    async def reconfigure(self, config: Config) -> None:
        """Poll by another config; servers are polled in the background."""
        closing, self.checker = self.checker, self._make(config)
        await closing.aclose()
        if self._starting is not None:
            self._starting.cancel()
        self._starting = asyncio.create_task(self.checker.start(self._patience))

    async def asked(self) -> None:
        """Wait, as `start` does, for the servers added by the last change of the config."""
        while self._starting is not None and not self._starting.done():
            await asyncio.wait([self._starting])  # another change replaces it

    async def aclose(self) -> None:
        """Stop."""
        if self._starting is not None:
            self._starting.cancel()
        await self.checker.aclose()
