"""Poll the discovery sources, and report when the found servers change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog

from ollama_router_core.config import Config, FoundServer, FoundServers
from ollama_router_core.config.discovery_settings import Discovery as Settings
from ollama_router_core.errors import RouterError
from ollama_router_server.fleet.discovery.dns import DnsFinder
from ollama_router_server.fleet.discovery.files import FileFinder
from ollama_router_server.fleet.discovery.finder import Finder
from ollama_router_server.fleet.discovery.kubernetes import KubernetesFinder
from ollama_router_server.fleet.discovery.mdns import MdnsFinder
from ollama_router_server.fleet.health_checker import START_SECONDS
from ollama_router_server.system import Clock
from ollama_router_server.upstream.interface import Upstream

__all__ = ["Discovery", "finders_of"]

_log = structlog.get_logger("discovery")


def finders_of(settings: Settings, upstream: Upstream, environment: Mapping[str, str]) -> list[Finder]:
    """Create a finder for each configured source.

    Raises:
        ConfigError: a library that a source needs is not installed.
    """
    finders: list[Finder] = [FileFinder(path) for path in settings.files]
    finders += [DnsFinder(name, settings) for name in settings.dns]
    if settings.kubernetes.selector is not None:
        finders.append(KubernetesFinder(settings, upstream, environment))
    if settings.mdns is not None:
        finders.append(MdnsFinder(settings))
    return finders


class Discovery:
    """One task per source.

    Args:
        config: configures the sources.
        changed: called when the found servers have changed.

    Raises:
        ConfigError: a library that a source needs is not installed.
    """

    def __init__(
        self,
        config: Config,
        *,
        upstream: Upstream,
        environment: Mapping[str, str],
        clock: Clock,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._upstream = upstream
        self._environment = environment
        self._clock = clock
        self._changed = changed
        self._settings = config.discovery
        self._finders = finders_of(config.discovery, upstream, environment)
        self._lacking: list[Finder] = []  # already logged for these
        self._known = FoundServers()
        self._tasks: list[asyncio.Task[None]] = []
        self.problems: dict[str, str] = {}
        """The current error of each failing source."""

    @property
    def found(self) -> tuple[FoundServer, ...]:
        """The servers found, as of the last look at each source."""
        return self._known.all()

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of servers by source, for every source."""
        return {finder.source: self._known.counts().get(finder.source, 0) for finder in self._finders}

    async def start(self, patience: float = START_SECONDS) -> None:
        """Start to look. Returns once every source has answered or failed, after at most `patience` seconds."""
        first = [asyncio.Event() for _ in self._finders]
        self._tasks = [
            asyncio.create_task(self._watch(finder, looked), name=f"discovery-{finder.source}")
            for finder, looked in zip(self._finders, first, strict=True)
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for looked in first:
                    await looked.wait()

    async def aclose(self) -> None:
        """Stop looking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def reconfigure(self, config: Config) -> None:
        """Apply another config if its sources differ; results of sources that stay are kept.

        Raises:
            ConfigError: see the constructor; nothing has changed.
        """
        if config.discovery == self._settings:
            return
        finders = finders_of(config.discovery, self._upstream, self._environment)
        await self.aclose()
        self._settings, self._finders, self._lacking = config.discovery, finders, []
        self._known.retain(finder.source for finder in finders)
        self.problems = {}
        await self.start()

    async def _watch(self, finder: Finder, looked: asyncio.Event) -> None:
        try:
            while True:
                before = self.found
                await self._look(finder)
                looked.set()
                if self.found != before:
                    await self._changed()
                await finder.wait()
        finally:
            finder.close()

    async def _look(self, finder: Finder) -> None:
        try:
            found = await finder.look()
        except RouterError as error:
            self._failed(finder.source, error.message)
        except Exception:  # noqa: BLE001 - whatever a source answers, the next look follows
            _log.exception("discovery_broken", source=finder.source)
            self._failed(finder.source, "internal error; see the log")
        else:
            if self.problems.pop(finder.source, None) is not None:
                _log.info("discovery_back", source=finder.source)
            if finder.lacks is not None and finder not in self._lacking:
                _log.warning("discovery_not_watched", source=finder.source, detail=finder.lacks)
                self._lacking.append(finder)
            self._known.report(finder.source, found, self._clock.monotonic(), keep=self._settings.keep)

    def _failed(self, source: str, reason: str) -> None:
        """Record a source's error; log it only when it changes."""
        if self.problems.get(source) != reason:
            _log.warning("discovery_failed", source=source, error=reason)
        self.problems[source] = reason
