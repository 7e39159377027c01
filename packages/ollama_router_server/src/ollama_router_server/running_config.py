"""The config in effect: the declared one, plus the servers that discovery found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

import structlog
from msgspec import Struct

from ollama_router_core.config.found_servers import with_found
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError
from ollama_router_core.routing.policy import leaks
from ollama_router_server.fleet.discovery.discovery_loop import Discovery
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.fleet.lasting_drains import LastingDrains
from ollama_router_server.fleet.name_changes import name_changes
from ollama_router_server.fleet.warmup import WarmUp
from ollama_router_server.upstream.targets import Target, build_targets, missing_keys

__all__ = ["ConfigChange", "RunningConfig", "check_local_only"]

_log = structlog.get_logger("services")


class ConfigChange(Struct, frozen=True, kw_only=True):
    """A change of the config in effect; `taken` is that of `name_changes`."""

    before: Config
    config: Config
    taken: Mapping[str, str]


def check_local_only(config: Config) -> None:
    """Refuse a config that would let a confined model leave the local network.

    Raises:
        ConfigError: a setting routes a `local_only` model to an external host.
    """
    if found := leaks(config):
        raise ConfigError("; ".join(found))


class RunningConfig:
    """The config in effect in one process, and its changes.

    Requests in flight are not interrupted: one on a removed server runs to its end.

    Args:
        config: the config at start.
        environment: contains keys of external hosts.
        targets: the targets of `config`. New ones are added and none is removed, since requests in flight may use them.
        discovery: finds servers.
        fleet: reconfigured after all listeners.
        drains: carried over to new names; dropped for a server whose declared `drain` changes.
        warm_up: reconfigured last, in the first worker only.
        first: whether this is the first worker.

    Attributes:
        config: the config in effect: `declared` plus the found servers.
        declared: the config as written.
        found_by: how each found server was found, by name.
        problem: why the config on disk cannot be used; None if it is in use.
        needs_restart: settings changed on disk that take effect after a restart.
    """

    def __init__(
        self,
        config: Config,
        environment: Mapping[str, str],
        *,
        targets: dict[str, Target],
        discovery: Discovery,
        fleet: FleetService,
        drains: LastingDrains,
        warm_up: WarmUp,
        first: bool,
    ) -> None:
        self.config = self.declared = config
        self.found_by: Mapping[str, str] = {}
        self.problem: str | None = None
        self.needs_restart: tuple[str, ...] = ()
        self._environment = environment
        self._targets = targets
        self._discovery = discovery
        self._fleet = fleet
        self._drains = drains
        self._warm_up = warm_up
        self._first = first
        self._listeners: list[Callable[[ConfigChange], None]] = []
        self._changing = asyncio.Lock()

    def on_change(self, listener: Callable[[ConfigChange], None]) -> None:
        """Call `listener` at the moment a new config takes effect."""
        self._listeners.append(listener)

    def warn(self) -> None:
        """Log warnings about the declared config."""
        for warning in missing_keys(self.declared, self._environment):
            _log.warning("external_host_without_key", detail=warning)

    async def declare(self, config: Config) -> None:
        """Apply a new declared config; settings that need a restart stay unchanged.

        Raises:
            ConfigError: the config is unusable; nothing has changed.
        """
        check_local_only(config)
        build_targets(config, self._environment)
        async with self._changing:
            await self._discovery.reconfigure(config)
            before, self.declared = self.declared, config
            await self._change({name for name, one in config.servers.items() if _drain(before, name) != one.drain})
        self.warn()

    async def take_up_found(self) -> None:
        """Apply newly found or lost servers, if the config changes."""
        async with self._changing:
            if self._with_found()[0] != self.config:
                await self._change(())

    def _with_found(self) -> tuple[Config, Mapping[str, str]]:
        return with_found(self.declared, self._discovery.found)

    async def _change(self, spoken: Collection[str]) -> None:
        """Apply the declared config and found servers; `spoken` are servers whose declared `drain` changed."""
        await self._drains.forget(spoken)  # first: no await between the new config and the fleet's use of it
        config, found_by = self._with_found()
        targets = build_targets(config, self._environment)
        names = name_changes(self._fleet.servers, config.servers, self._targets, targets)
        same = {new: old for new, old in names.renamed.items() if _drain(config, new) == _drain(self.config, old)}
        await self._drains.renamed(same)
        self._log_found(config, found_by)
        change = ConfigChange(before=self.config, config=config, taken=names.taken)
        self.config, self.found_by = config, found_by
        self._targets.update(targets)
        self._fleet.take_names(names.taken)
        for listener in self._listeners:
            listener(change)
        await self._fleet.reconfigure(config, moved=names.moved, renamed=names.renamed, taken=names.taken)
        if self._first:
            self._warm_up.reconfigure(config)

    def _log_found(self, config: Config, found_by: Mapping[str, str]) -> None:
        if found_by != self.found_by and self._first:
            come, gone = found_by.keys() - self.found_by.keys(), self.found_by.keys() - found_by.keys()
            _log.info("servers_found", found=sorted(come), gone=sorted(gone), use=config.discovery.use)


def _drain(config: Config, name: str) -> bool | None:
    server = config.servers.get(name)
    return None if server is None else server.drain
