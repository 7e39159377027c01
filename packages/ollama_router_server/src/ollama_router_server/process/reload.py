"""Reloading the config: on SIGHUP, and when its file changes.

A config is read and checked as a whole before anything changes; one with problems is logged and the old one stays in
force. A changed file is read once it has stayed the same for one interval, so that a half-written one is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from ollama_router_core.config import changed_paths, needs_restart
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError
from ollama_router_server.process.notify import Notifier
from ollama_router_server.services import Services
from ollama_router_server.storage.audit import ROUTER, Actor

__all__ = ["ConfigSource", "Reloader"]

_log = structlog.get_logger("config")

_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSource:
    """Where the config comes from.

    Attributes:
        path: its file, None for the built-in defaults.
        read: reads and checks it again; raises ConfigError.
    """

    path: Path | None
    read: Callable[[], Config]


class Reloader:
    """Applies the config of a file to running services.

    Args:
        services: reconfigured.
        source: of the config.
        notifier: reports reloads to the service manager; None in a worker, whose supervisor reports.
        interval: seconds between checks of the file.
    """

    def __init__(
        self,
        services: Services,
        source: ConfigSource,
        *,
        notifier: Notifier | None = None,
        interval: float = 1.0,
    ) -> None:
        self._services = services
        self._started_with = services.config
        self._source = source
        self._notifier = notifier
        self._interval = interval
        self._requested = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the file; needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="reload")

    def request(self) -> None:
        """Reload now, whether or not the file has changed; secrets kept in files of their own are read again too."""
        self._requested.set()

    async def aclose(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        applied = seen = self._stamp()
        while True:
            requested = await self._requested_within(self._interval)
            last, seen = seen, self._stamp()
            if requested or (seen is not None and seen != applied and seen == last):
                applied = seen
                if self._notifier is not None:
                    self._notifier.reloading(self._services.clock.monotonic())
                await self._reload(forced=requested)
                if self._notifier is not None:
                    self._notifier.ready()

    async def _requested_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._requested.wait(), seconds)
        requested = self._requested.is_set()
        self._requested.clear()
        return requested

    def _stamp(self) -> _Stamp:
        """Identify the file's content; None while there is no file."""
        if self._source.path is None:
            return None
        try:
            found = self._source.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    async def _reload(self, *, forced: bool) -> None:
        services = self._services
        report = _log if services.first else _Silent()
        try:
            config = await asyncio.to_thread(self._source.read)
            paths = changed_paths(services.config, config)
            if paths or forced:
                await services.reconfigure(config)
        except ConfigError as error:
            services.config_problem = error.message
            report.error("config_refused", error=error.message)
            return
        except Exception:  # noqa: BLE001 - the old config stays, whatever this was
            services.config_problem = "internal error; see the log"
            _log.exception("config_not_taken_up")
            return
        services.config_problem = None
        if services.first and (paths or forced):
            await services.audit.record(
                Actor(ROUTER.name, "signal" if forced else "file"), "config.reload", changed=paths
            )
        waiting = needs_restart(changed_paths(self._started_with, config))
        report.info("config_reloaded", changed=list(paths), needs_restart=list(waiting))


class _Silent:
    """The log of all workers but the first: each reads the config, one line is enough."""

    def info(self, event: str, **_values: object) -> None:
        """Log nothing."""

    error = info
