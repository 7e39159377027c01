"""What every way of finding servers has in common."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ollama_router_core.config import FoundServer
from ollama_router_core.errors import RouterError

__all__ = ["Finder", "LookFailed", "Periodic"]


class LookFailed(RouterError):
    """Servers could not be looked for; the text says why."""

    code = "discovery_failed"


class Finder(Protocol):
    """One place to look at; `source` names it.

    `lacks` tells what the operator has to grant for changes to be known at once, None where nothing.
    """

    source: str
    lacks: str | None

    async def look(self) -> tuple[FoundServer, ...]:
        """Find what is there now.

        Raises:
            RouterError: nothing can be told; the text says why.
        """

    async def wait(self) -> None:
        """Return when it is time to look again."""

    def close(self) -> None:
        """Let go of what is held between two looks."""


class Periodic:
    """Of a finder that looks every `interval` seconds, and holds nothing in between."""

    interval: float
    lacks: str | None = None

    async def wait(self) -> None:
        """Return after the interval."""
        await asyncio.sleep(self.interval)

    def close(self) -> None:
        """Nothing is held."""
