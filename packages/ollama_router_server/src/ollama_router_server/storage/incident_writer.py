"""The single writer of a process's incidents: reports are buffered in memory, so that no request waits for them."""

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
    """Write changes in order; with a thousand pending, further changes go only to the router's log.

    Args:
        store: the database's incidents.
        origin: the reporting process.
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
        """Changes not written yet."""
        return len(self._pending)

    def start(self) -> None:
        """Start writing; needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="incidents")

    def report(self, change: Change) -> None:
        """Queue one change; never blocks, never raises."""
        if len(self._pending) < _MOST_PENDING:
            self._pending.append(change)
            self._reported.set()
        else:
            _log.warning("incident_not_kept", change=type(change).__name__, pending=len(self._pending))

    async def aclose(self, *, grace: float = 1.0) -> None:
        """Write pending changes for at most `grace` seconds."""
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
        """Write the oldest changes; return False if the database is unavailable."""
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
        """Wait before the next attempt; return at once when closing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PAUSE):
                while not self._closing:
                    self._reported.clear()
                    await self._reported.wait()
