"""Retention of the request log, the audit trail and incidents: deletes old rows while the router runs.

Several processes may do this on one database: each step is a small transaction, and a step that finds no rows ends.
"""

from __future__ import annotations

import asyncio

import structlog

from ollama_router_core.config.settings import RequestLogSettings
from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.audit_log import AuditLog
from ollama_router_server.storage.incident_store import IncidentStore
from ollama_router_server.storage.log_totals import DAY
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.system import Clock

__all__ = ["LogRetention"]

_FIRST_PAUSE = 10.0  # seconds: the start is busy enough

_log = structlog.get_logger(__name__)


class LogRetention:
    """Delete rows, audit entries and incidents past the retention settings, every `interval` seconds."""

    def __init__(
        self,
        log: RequestLog,
        audit: AuditLog,
        incidents: IncidentStore,
        settings: RequestLogSettings,
        *,
        clock: Clock,
        interval: float = 600.0,
    ) -> None:
        self._log = log
        self._audit = audit
        self._incidents = incidents
        self._settings = settings
        self._clock = clock
        self._interval = interval
        self._task: asyncio.Task[None] | None = None

    def reconfigure(self, settings: RequestLogSettings) -> None:
        """Use other settings from the next round on."""
        self._settings = settings

    def start(self) -> None:
        """Start; needs a running event loop."""
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Stop; the database rolls back a running step."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        await asyncio.sleep(min(_FIRST_PAUSE, self._interval))
        while True:
            try:
                await self.clean_up()
            except StorageUnavailable as error:
                _log.warning("log_retention_unavailable", error=str(error))
            except Exception:  # noqa: BLE001 - the log must not grow because of one bad step
                _log.exception("log_retention_failed")
            await asyncio.sleep(self._interval)

    async def clean_up(self) -> int:
        """Delete rows past the retention settings; return how many rows of the request log were deleted.

        Raises:
            StorageUnavailable: the database cannot delete now; earlier steps stay committed.
        """
        gone, days = 0, self._settings.keep_days
        before = None if days is None else self._clock.wall() - days * DAY
        await self._audit.cleanup(before=before, most=self._settings.max_rows)
        await self._incidents.cleanup(before=before)
        if before is not None:
            gone += await self._log.cleanup(before=before)
        if self._settings.max_rows is not None:
            start = await self._log.start_of_newest(self._settings.max_rows)
            if start is not None:
                gone += await self._log.cleanup(before=start)
        if gone:
            _log.info("log_rows_deleted", rows=gone)
        return gone
