"""The one writer of a process's incidents: what is reported waits in memory, and no request waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import Final

import structlog

from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.incident_changes import Change, Origin
from ollama_router_server.storage.incident_store import IncidentStore

__all__ = ["IncidentWriter"]

_MOST_PENDING: Final = 1_000
_AT_ONCE: Final = 100
_PAUSE: Final = 5.0
"""Seconds until the next attempt while the database is unavailable."""

_log = structlog.get_logger(__name__)


class IncidentWriter:
    """Writes changes in their order. Beyond a thousand that wait, further ones are only in the router's own log.

    Args:
        store: of the database.
        origin: the process that reports.
    """

    def __init__(self, store: IncidentStore, origin: Origin) -> None:
        self._store = store
        self.origin = origin
        self._pending: deque[Change] = deque()
        self._reported = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """Changes that wait."""
        return len(self._pending)

    def start(self) -> None:
        """Begin to write; needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="incidents")

    def report(self, change: Change) -> None:
        """Take one change; never waits, never raises."""
        if len(self._pending) < _MOST_PENDING:
            self._pending.append(change)
            self._reported.set()
        else:
            _log.warning("incident_not_kept", change=type(change).__name__, pending=len(self._pending))

    async def aclose(self, *, grace: float = 1.0) -> None:
        """Write what waits, for at most `grace` seconds."""
        self._closing = True
        self._reported.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=grace)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._closing or self._pending:
            if not self._pending:
                self._reported.clear()
                await self._reported.wait()
            elif not await self._write():
                if self._closing:
                    return
                await self._pause()

    async def _write(self) -> bool:
        """Write the oldest changes; False if the database cannot take them now."""
        batch = list(islice(self._pending, _AT_ONCE))
        try:
            await self._store.apply(self.origin, batch)
        except StorageUnavailable:
            return False
        except Exception:  # noqa: BLE001 - the next ones must not wait behind what no database takes
            _log.exception("incidents_refused", changes=len(batch))
        for _ in batch:
            self._pending.popleft()
        return True

    async def _pause(self) -> None:
        """Wait before the next attempt, until it is the last one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE):
                while not self._closing:
                    self._reported.clear()
                    await self._reported.wait()
