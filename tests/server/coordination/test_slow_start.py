"""A server that one router finds back starts slowly at all of them, over each implementation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from ollama_router_core.coordination.interface import Group
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from support.fleets import make_config
from support.storage import FakeClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Nothing here depends on the event loop."""
    return "asyncio"


async def test_a_slow_start_is_shared(make_group: Callable[[int], Group]) -> None:
    """With the suspension before it, and until its end: one slot each at first, all of them thirty seconds later."""
    clock, group = FakeClock(), make_group(2)
    members = [group.member(index) for index in range(2)]
    upstream: Any = HttptoolsUpstream()
    config = make_config({"a": {}, "b": {}})  # the only server is not put out
    one, other = fleets = [
        FleetService(config=config, targets={}, upstream=upstream, clock=clock, coordination=member)
        for member in members
    ]

    async def exchange() -> None:
        for member in (*members, *members):
            await member.beat(time.monotonic())
        for fleet, member in zip(fleets, members, strict=True):
            fleet.follow(member.news())

    await exchange()
    for fleet in fleets:
        for name in config.servers:
            fleet.state.probe_answered(name, 200, b'{"version":"0.32.0"}', probe_ms=1.0, now=clock.monotonic())
    for _ in range(5):
        permit = one.permit("a")
        assert permit is not None
        permit.failed(clock.monotonic())
    await exchange()
    assert [set(fleet.snapshot.suspended) for fleet in fleets] == [{"a"}, {"a"}]
    clock.advance(20.0)
    probe = other.permit("a")
    assert probe is not None
    assert probe.probe
    probe.done(clock.monotonic())
    await exchange()
    assert [fleet.snapshot.slots for fleet in fleets] == [{"a": 1}, {"a": 1}]
    clock.advance(31.0)
    assert [fleet.snapshot.slots for fleet in fleets] == [{}, {}]
