"""Another config while the router runs: on SIGHUP, and when the file has changed.

A config is read whole and checked before anything changes; one with problems is reported and the old one stays. A file
that was changed is read once it has been the same at two looks, so that half a file is not taken for one.
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

__all__ = ["ConfigSource", "Reloader"]

_log = structlog.get_logger("config")

_Look = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigSource:
    """Where the config comes from: `read` reads and checks it anew; `path` is its file, None for built-in defaults."""

    path: Path | None
    read: Callable[[], Config]


class Reloader:
    """Keeps a router's config as its file has it.

    Args:
        services: whose config it is.
        source: where it comes from.
        notifier: told of reloads; None where somebody else tells.
        interval: seconds between looks at the file.
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
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look; call it on a running event loop."""
        self._task = asyncio.create_task(self._run(), name="reload")

    def ask(self) -> None:
        """Read the config now, whether or not its file has changed; keys in files are read again too."""
        self._asked.set()

    async def aclose(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        read = seen = self._look()
        while True:
            asked = await self._asked_within(self._interval)
            last, seen = seen, self._look()
            if asked or (seen is not None and seen != read and seen == last):
                read = seen
                if self._notifier is not None:
                    self._notifier.reloading(self._services.clock.monotonic())
                await self._reload(asked=asked)
                if self._notifier is not None:
                    self._notifier.ready()

    async def _asked_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)
        asked = self._asked.is_set()
        self._asked.clear()
        return asked

    def _look(self) -> _Look:
        """What tells one state of the file from another; None while there is no file."""
        if self._source.path is None:
            return None
        try:
            found = self._source.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    async def _reload(self, *, asked: bool) -> None:
        services = self._services
        tell = _log if services.first else _Silent()
        try:
            config = await asyncio.to_thread(self._source.read)
            paths = changed_paths(services.config, config)
            if paths or asked:
                await services.reconfigure(config)
        except ConfigError as error:
            services.config_problem = error.message
            tell.error("config_refused", error=error.message)
            return
        except Exception:  # noqa: BLE001 - the old config stays, whatever this was
            services.config_problem = "internal error; see the log"
            _log.exception("config_not_taken_up")
            return
        services.config_problem = None
        waiting = needs_restart(changed_paths(self._started_with, config))
        tell.info("config_reloaded", changed=list(paths), needs_restart=list(waiting))


class _Silent:
    """All workers read the config, one tells of it."""

    def info(self, event: str, **_values: object) -> None:
        """Say nothing."""

    error = info
