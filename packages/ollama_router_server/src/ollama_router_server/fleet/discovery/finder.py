"""What every way of finding servers has in common."""

from __future__ import annotations

from typing import Protocol

from ollama_router_core.config import FoundServer
from ollama_router_core.errors import RouterError

__all__ = ["Finder", "LookFailed"]


class LookFailed(RouterError):
    """Servers could not be looked for; the text says why."""

    code = "discovery_failed"


class Finder(Protocol):
    """One place to look at: `source` names it, `interval` is in seconds."""

    source: str
    interval: float

    async def look(self) -> tuple[FoundServer, ...]:
        """Find what is there now.

        Raises:
            RouterError: nothing can be told; the text says why.
        """
