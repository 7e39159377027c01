"""Reachability of external hosts, checked at no cost: a periodic TCP connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from msgspec import Struct

from ollama_router_core.config.settings import Config
from ollama_router_server.system import Clock
from ollama_router_server.upstream.targets import Target

__all__ = ["Reach", "Reachability"]


class Reach(Struct, frozen=True):
    """The last attempt: the duration of the connection, or the error."""

    response_time_ms: float | None
    error: str | None


class Reachability:
    """Connect to each enabled external host every `health_check_interval` seconds."""

    def __init__(self, config: Config, targets: Mapping[str, Target], clock: Clock) -> None:
        self._config = config
        self._targets = targets
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self.last: dict[str, Reach] = {}

    def reconfigure(self, config: Config) -> None:
        """Apply another config: check its hosts at once."""
        self._config = config
        self.last = {name: reach for name, reach in self.last.items() if name in config.external_hosts}
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.start()

    def start(self) -> None:
        """Start checking, in the background."""
        if any(host.enabled for host in self._config.external_hosts.values()):
            self._task = asyncio.create_task(self._watch(), name="reachability")

    async def aclose(self) -> None:
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            hosts = self._config.external_hosts
            await asyncio.gather(*(self._try(name) for name, host in hosts.items() if host.enabled))
            await asyncio.sleep(self._config.health_check_interval)

    async def _try(self, name: str) -> None:
        origin = self._targets[name].origin
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                _, writer = await asyncio.open_connection(origin.host, origin.port)
        except (OSError, TimeoutError) as error:
            self.last[name] = Reach(None, f"cannot connect: {type(error).__name__}")
            return
        self.last[name] = Reach((self._clock.monotonic() - started) * 1000, None)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
