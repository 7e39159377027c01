"""Servers that DNS names, from a name server on loopback."""

from __future__ import annotations

import pytest

from ollama_router_core.config.discovery_settings import Discovery, DnsName
from ollama_router_server.fleet.discovery.dns import DnsFinder
from ollama_router_server.fleet.discovery.finder import LookFailed
from support.name_server import Records, name_server

pytestmark = pytest.mark.anyio


async def places(records: Records, **name: object) -> list[tuple[str, str, int, int]]:
    """Name, host, port and priority of what is found."""
    async with name_server(records) as resolver:
        settings = Discovery.model_validate({"resolver": resolver, "servers": {"priority": 3}})
        found = await DnsFinder(DnsName.model_validate(name), settings).look()
    return [(one.name, one.settings.host, one.settings.port, one.settings.priority) for one in found]


async def test_addresses_are_servers() -> None:
    """IPv4 and IPv6, with the port of the settings; a name without addresses has none, and is no failure."""
    records = {("ollama.lan", "A"): ["10.0.0.8", "10.0.0.7"], ("ollama.lan", "AAAA"): ["fd00::7"], ("x.lan", "TXT"): []}
    assert sorted(await places(records, name="ollama.lan", port=11500)) == [
        ("ollama-10.0.0.7", "10.0.0.7", 11500, 3),
        ("ollama-10.0.0.8", "10.0.0.8", 11500, 3),
        ("ollama-fd00-7", "fd00::7", 11500, 3),
    ]
    assert await places(records, name="x.lan") == []
    assert await places(records, name="gone.lan") == []


async def test_services_have_ports_of_their_own() -> None:
    """SRV names hosts, and several servers of one by their ports; what is no port is left out."""
    records = {("_ollama._tcp.lan", "SRV"): ["0 0 11434 gpu1.lan.", "0 0 11435 gpu1.lan.", "0 0 0 gpu3.lan."]}
    assert sorted(await places(records, name="_ollama._tcp.lan", type="srv")) == [
        ("gpu1.lan", "gpu1.lan", 11434, 3),
        ("gpu1.lan-11435", "gpu1.lan", 11435, 3),
    ]


async def test_a_resolver_that_refuses_is_a_failure() -> None:
    """Not an empty answer: nothing that was found goes."""
    with pytest.raises(LookFailed, match=r"A of refused\.lan"):
        await places({("refused.lan", "A"): []}, name="refused.lan")
