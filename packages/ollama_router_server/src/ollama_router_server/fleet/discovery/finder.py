"""The interface of discovery sources."""

from __future__ import annotations

import asyncio
from typing import Protocol

from ollama_router_core.config import FoundServer
from ollama_router_core.errors import RouterError

__all__ = ["Finder", "LookFailed", "Periodic"]


class LookFailed(RouterError):
    """Looking for servers failed; the message gives the reason."""

    code = "discovery_failed"


class Finder(Protocol):
    """One discovery source; `source` is its name.

    `lacks` is the permission missing to see changes at once, None if there is none.
    """

    source: str
    lacks: str | None

    async def look(self) -> tuple[FoundServer, ...]:
        """Return the servers that exist now.

        Raises:
            RouterError: the source cannot be read; the message gives the reason.
        """

    async def wait(self) -> None:
        """Return when it is time to look again."""

    def close(self) -> None:
        """Release resources held between two looks."""


class Periodic:
    """The part of a finder that looks every `interval` seconds and holds no resources in between."""

    interval: float
    lacks: str | None = None

    async def wait(self) -> None:
        """Sleep for the interval."""
        await asyncio.sleep(self.interval)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
