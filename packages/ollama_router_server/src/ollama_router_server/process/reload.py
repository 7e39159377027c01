"""Config reload, on SIGHUP and when the file changes.

A config is read and checked as a whole before anything changes; an invalid one is logged, and the old one stays in
effect. A changed file is read once it has been stable for one interval, so that a half-written file is not read. Every
applied config is kept in the history.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from ollama_router_core.config import changed_paths, needs_restart
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError, RouterError
from ollama_router_server.process.notify import Notifier
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import ROUTER, Actor
from ollama_router_server.storage.config_history import config_history
from ollama_router_server.storage.config_versions import ConfigVersionStore

__all__ = ["ConfigSource", "ReadConfig", "Reloader"]

_log = structlog.get_logger("config")

_INTERVAL: Final = 1.0
"""Seconds between checks of the file."""

_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadConfig:
    """A config and its source text, which may contain secrets; None for the built-in defaults."""

    config: Config
    text: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSource:
    """The source of the config.

    Attributes:
        path: the config file; None for the built-in defaults.
        text: the text at start.
        read: read and check the config again; raises ConfigError.
    """

    path: Path | None
    text: str | None = field(repr=False)
    read: Callable[[], ReadConfig]


class Reloader:
    """Apply changes of the config file to running services.

    Args:
        services: the services to reconfigure.
        source: the source of the config.
        notifier: reports reloads to the service manager; None in a worker, whose supervisor reports.
    """

    def __init__(self, services: Services, source: ConfigSource, *, notifier: Notifier | None) -> None:
        self._services = services
        self._started_with = services.config
        self._source = source
        self._notifier = notifier
        self._requested = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start watching the file; needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="reload")

    def request(self) -> None:
        """Reload now, even if the file has not changed; also re-read secrets kept in separate files."""
        self._requested.set()

    async def aclose(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        applied = seen = self._stamp()
        await self._keep(self._source.text, "start")
        while True:
            requested = await self._requested_within(_INTERVAL)
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
        """Return an identity of the file's content; None if there is no file."""
        if self._source.path is None:
            return None
        try:
            found = self._source.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    async def _reload(self, *, forced: bool) -> None:
        services, running = self._services, self._services.running_config
        try:
            read = await asyncio.to_thread(self._source.read)
            paths = changed_paths(running.declared, read.config)
            if paths or forced:
                await running.declare(read.config)
        except ConfigError as error:
            self._judged(error.message)
            if services.first:
                _log.error("config_refused", error=error.message)
            return
        except Exception:  # noqa: BLE001 - the old config stays in effect, whatever the error
            self._judged("internal error; see the log")
            _log.exception("config_not_taken_up")
            return
        self._judged(None)
        actor = Actor(ROUTER.name, "signal" if forced else "file")
        await self._keep(read.text, actor.via)
        running.needs_restart = tuple(needs_restart(changed_paths(self._started_with, read.config)))
        if services.first:
            if paths or forced:
                await services.audit.record(actor, "config.reload", changed=paths)
            _log.info("config_reloaded", changed=list(paths), needs_restart=list(running.needs_restart))

    def _judged(self, problem: str | None) -> None:
        self._services.running_config.problem = problem
        self._services.incidents.config(problem)

    async def _keep(self, text: str | None, cause: str) -> None:
        """Keep an applied config in the history, in the first worker only; failures are logged, not raised."""
        services, path = self._services, self._source.path
        if path is None or text is None or not services.first:
            return
        now = services.clock.wall()
        try:
            if services.database.path is None:  # a shared database: the routers' file systems may not be persistent
                store = ConfigVersionStore(services.database, path)
                await store.keep(text, now, router=services.router_name, cause=cause)
            else:
                await asyncio.to_thread(config_history(path).keep, text, now)
        except (RouterError, OSError) as error:
            _log.warning("config_not_kept", path=str(path), error=str(error))
