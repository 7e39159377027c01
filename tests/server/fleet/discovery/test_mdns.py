"""Servers that announce themselves, on loopback."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from zeroconf import NonUniqueNameException, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from ollama_router_core.config.discovery_settings import Discovery
from ollama_router_server.fleet.discovery import mdns
from ollama_router_server.fleet.discovery.mdns import MdnsFinder

pytestmark = pytest.mark.anyio

SETTINGS = Discovery.model_validate({"mdns": "_orouter-test._tcp", "servers": {"priority": 2}})
TYPE = "_orouter-test._tcp.local."


async def test_what_is_announced_is_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name that it announces with its address, since anybody may announce that name."""
    monkeypatch.setattr(mdns, "_LISTEN", 0.3)
    try:
        network = AsyncZeroconf(interfaces=["127.0.0.1"])
    except OSError:
        pytest.skip("this machine lets nobody send to a group")
    service = ServiceInfo(
        TYPE, f"gpu one.{TYPE}", addresses=[socket.inet_aton("10.0.0.7")], port=11434, server="gpu1.local."
    )
    with suppress(NonUniqueNameException):  # that of a test beside this one serves as well
        await network.async_register_service(service, cooperating_responders=True)
    try:
        found = ()
        for _ in range(20):
            found = found or await MdnsFinder(SETTINGS, ["127.0.0.1"]).look()
    finally:
        await network.async_close()
    (one,) = found
    assert (one.settings.host, one.settings.port, one.settings.priority) == ("10.0.0.7", 11434, 2)
    assert one.name == "gpu-one-10.0.0.7-11434"
    assert one.source == "mdns:_orouter-test._tcp"
