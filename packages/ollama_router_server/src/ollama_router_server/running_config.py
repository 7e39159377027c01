"""The config that holds while the router runs: what somebody declared, with the servers that were found."""

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
    """One config in place of another; `taken` as `name_changes` has it."""

    before: Config
    config: Config
    taken: Mapping[str, str]


def check_local_only(config: Config) -> None:
    """Refuse a config that would let a model out of the house.

    Raises:
        ConfigError: a setting leads a model out that has to stay (`local_only`).
    """
    if found := leaks(config):
        raise ConfigError("; ".join(found))


class RunningConfig:
    """The config that one process goes by, and how it comes to go by another.

    Nothing under way is touched: a request that runs on a server which is gone now ends there.

    Args:
        config: the one to start with.
        environment: holds keys of external hosts.
        targets: those of `config`. Others are added and none is removed, as requests may be on their way there.
        discovery: finds servers.
        fleet: goes by the new config once all listeners do.
        drains: go on under new names; one about which the declared config has another word is forgotten.
        warm_up: goes by it last, in the first worker.
        first: whether this is the first worker.

    Attributes:
        config: what holds: `declared` with the servers that were found.
        declared: what somebody wrote.
        found_by: where each found server was found, by name.
        problem: why the config as it is on disk cannot be used; None while it can, and is.
        needs_restart: settings that the config on disk changes and a restart takes up.
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
        """Call `listener` in the moment in which another config holds."""
        self._listeners.append(listener)

    def warn(self) -> None:
        """Log what the declared config lacks and can do without."""
        for warning in missing_keys(self.declared, self._environment):
            _log.warning("external_host_without_key", detail=warning)

    async def declare(self, config: Config) -> None:
        """Go by what somebody wrote from now on; what needs a restart stays as it is.

        Raises:
            ConfigError: it cannot be used; nothing has changed.
        """
        check_local_only(config)
        build_targets(config, self._environment)
        async with self._changing:
            await self._discovery.reconfigure(config)
            before, self.declared = self.declared, config
            await self._change({name for name, one in config.servers.items() if _drain(before, name) != one.drain})
        self.warn()

    async def take_up_found(self) -> None:
        """Go by what was found since the last time, if it changes anything."""
        async with self._changing:
            if self._with_found()[0] != self.config:
                await self._change(())

    def _with_found(self) -> tuple[Config, Mapping[str, str]]:
        return with_found(self.declared, self._discovery.found)

    async def _change(self, spoken: Collection[str]) -> None:
        """Go by what is declared and found; `spoken` are servers whose `drain` was changed in the declared config."""
        await self._drains.forget(spoken)  # first: from the new config to the fleet that goes by it nothing waits
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
