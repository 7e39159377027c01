"""Discovery by DNS: the addresses of a name, or the hosts and ports of an SRV record."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from ollama_router_core.config import FoundServer, found_server
from ollama_router_core.config.discovery_settings import Discovery, DnsName
from ollama_router_core.errors import ConfigError
from ollama_router_server.fleet.discovery.finder import LookFailed, Periodic

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

__all__ = ["DnsFinder"]

_USUAL_PORT = 11434
_PATIENCE = 3.0  # seconds per query


class DnsFinder(Periodic):
    """One DNS name.

    Raises:
        ConfigError: dnspython is not installed.
    """

    def __init__(self, name: DnsName, settings: Discovery) -> None:
        self.source = f"dns:{name.name}"
        self.interval = settings.interval
        self._name = name
        self._settings = settings.servers
        self._resolver = _resolver(settings.resolver)

    async def look(self) -> tuple[FoundServer, ...]:
        """Query the records; a name without records has no servers.

        Raises:
            LookFailed: no resolver answers.
        """
        found = [
            found_server(name, self.source, host, port, self._settings) async for name, host, port in self._addresses()
        ]
        return tuple(one for one in found if one is not None)

    async def _addresses(self) -> AsyncIterator[tuple[str, str, int]]:
        """Yield names, hosts and ports."""
        if self._name.type == "srv":
            for record in await self._ask("SRV"):
                host = record.target.to_text(omit_final_dot=True)
                usual = record.port == _USUAL_PORT  # a host with several servers gets several names
                yield host if usual else f"{host}-{record.port}", host, record.port
            return
        label = self._name.name.partition(".")[0]
        for kind in ("A", "AAAA"):
            for record in await self._ask(kind):
                address = ipaddress.ip_address(record.address)
                yield f"{label}-{address}", str(address), self._name.port

    async def _ask(self, kind: str) -> list[Any]:
        from dns import exception, resolver  # noqa: PLC0415 - an extra

        try:
            answer = await self._resolver.resolve(self._name.name, kind, search=True, lifetime=_PATIENCE)
        except (resolver.NXDOMAIN, resolver.NoAnswer):
            return []
        except (exception.DNSException, OSError) as error:
            raise LookFailed(f"DNS does not tell {kind} of {self._name.name}: {type(error).__name__}") from None
        return list(answer)


def _resolver(address: str | None) -> Resolver:
    try:
        from dns.asyncresolver import Resolver  # noqa: PLC0415 - an extra
        from dns.resolver import NoResolverConfiguration  # noqa: PLC0415
    except ImportError:
        raise ConfigError("discovery.dns needs dnspython: install ollama-router-server[dns]") from None
    try:
        resolver = Resolver(configure=address is None)
    except NoResolverConfiguration:
        raise ConfigError("discovery.dns: this machine has no resolver; set discovery.resolver") from None
    if address is not None:
        host, _, port = address.rpartition(":")
        resolver.nameservers, resolver.port = [host.strip("[]")], int(port)
    return resolver
