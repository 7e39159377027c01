"""Discovery of servers that announce themselves in the local network (multicast DNS, DNS-SD)."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ollama_router_core.config import FoundServer, found_server, name_at
from ollama_router_core.config.discovery_settings import Discovery
from ollama_router_core.errors import ConfigError
from ollama_router_server.fleet.discovery.finder import LookFailed, Periodic

if TYPE_CHECKING:
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

__all__ = ["MdnsFinder"]

_INTERVAL = 30.0  # a longer interval than other sources, to spare the network
_LISTEN = 1.5  # seconds for answers; half of them arrive within 0.2
_RESOLVE_MS = 1_000.0


class MdnsFinder(Periodic):
    """One service type, queried anew on each look, so that no socket stays open in between.

    Anyone in the network can announce any name, so a server's name includes its address: settings that an admin made
    for one server never apply to another.

    Args:
        settings: the discovery settings, with a service type.
        interfaces: addresses of the interfaces to query; None queries on all.

    Raises:
        ConfigError: zeroconf is not installed.
    """

    interval = _INTERVAL

    def __init__(self, settings: Discovery, interfaces: list[str] | None = None) -> None:
        if find_spec("zeroconf") is None:
            raise ConfigError("discovery.mdns needs zeroconf: install ollama-router-server[mdns]")
        self.source = f"mdns:{settings.mdns}"
        self._type = f"{settings.mdns}.local."
        self._settings = settings.servers
        self._interfaces = interfaces

    async def look(self) -> tuple[FoundServer, ...]:
        """Query, and collect answers for 1.5 seconds.

        Raises:
            LookFailed: this machine does not permit multicast.
        """
        from zeroconf import InterfaceChoice  # noqa: PLC0415 - an extra
        from zeroconf.asyncio import AsyncZeroconf  # noqa: PLC0415

        try:
            network = AsyncZeroconf(interfaces=self._interfaces or InterfaceChoice.All)
        except OSError as error:
            raise LookFailed(f"multicast DNS: {error.strerror}") from None
        try:
            services = await self._services(network)
        finally:
            await network.async_close()
        found = (self._server(service) for service in services)
        return tuple(one for one in found if one is not None)

    async def _services(self, network: AsyncZeroconf) -> list[AsyncServiceInfo]:
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo  # noqa: PLC0415 - an extra

        names: set[str] = set()

        def heard(*, name: str, **_: Any) -> None:
            names.add(name)

        browser = AsyncServiceBrowser(network.zeroconf, self._type, handlers=[heard])
        try:
            await asyncio.sleep(_LISTEN)
        finally:
            await browser.async_cancel()
        services = [AsyncServiceInfo(self._type, name) for name in sorted(names)]
        resolved = await asyncio.gather(*(one.async_request(network.zeroconf, _RESOLVE_MS) for one in services))
        return [one for one, answered in zip(services, resolved, strict=True) if answered]

    def _server(self, service: AsyncServiceInfo) -> FoundServer | None:
        addresses = service.parsed_scoped_addresses()
        if not addresses or service.port is None:
            return None
        name = service.name.removesuffix(f".{self._type}")
        host, port = addresses[0], service.port
        return found_server(name_at(name, host, port), self.source, host, port, self._settings)
