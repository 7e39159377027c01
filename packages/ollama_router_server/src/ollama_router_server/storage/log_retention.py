"""Looks after the request log while the router runs: sums are merged, old rows go.

Several processes on one database may do this at once: each step is a small transaction that finds its work done.
"""

from __future__ import annotations

import asyncio

import structlog

from ollama_router_core.config.settings import RequestLogSettings
from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.system import Clock

__all__ = ["LogRetention"]

_DAY = 86_400

_log = structlog.get_logger(__name__)


class LogRetention:
    """Merges sums every `merge_interval` seconds and deletes old rows every `cleanup_interval` seconds."""

    def __init__(
        self,
        log: RequestLog,
        settings: RequestLogSettings,
        *,
        clock: Clock,
        merge_interval: float = 10.0,
        cleanup_interval: float = 600.0,
    ) -> None:
        self._log = log
        self._settings = settings
        self._clock = clock
        self._merge_interval = merge_interval
        self._cleanup_interval = cleanup_interval
        self._task: asyncio.Task[None] | None = None

    def reconfigure(self, settings: RequestLogSettings) -> None:
        """Other settings from the next cleaning on."""
        self._settings = settings

    def start(self) -> None:
        """Begin; call it on a running event loop."""
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Stop; a step under way is undone by the database."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        cleaned = float("-inf")
        while True:
            await asyncio.sleep(self._merge_interval)
            try:
                await self._log.merge(now=self._clock.wall())
                if self._clock.monotonic() - cleaned >= self._cleanup_interval:
                    cleaned = self._clock.monotonic()
                    await self.clean_up()
            except StorageUnavailable as error:
                _log.warning("log_keeper_unavailable", error=str(error))
            except Exception:  # noqa: BLE001 - the log must not grow because of one bad step
                _log.exception("log_keeper_failed")

    async def clean_up(self) -> int:
        """Delete what the settings do not keep; returns how many rows went.

        Raises:
            StorageUnavailable: the database cannot take it now; what went before is gone.
        """
        gone = 0
        if self._settings.keep_days is not None:
            gone += await self._log.cleanup(before=self._clock.wall() - self._settings.keep_days * _DAY)
        if self._settings.max_rows is not None:
            start = await self._log.start_of_newest(self._settings.max_rows)
            if start is not None:
                gone += await self._log.cleanup(before=start)
        if gone:
            _log.info("log_rows_deleted", rows=gone)
        return gone
