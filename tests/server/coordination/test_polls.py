"""One process of a group polls a server and the others take its answers, over each implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ollama_router_core.config.settings import Config
from ollama_router_core.coordination.interface import Group
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.fleet.fleet_service import FleetService
from ollama_router_server.system import SystemClock
from ollama_router_server.upstream.httptools_upstream import HttptoolsUpstream
from ollama_router_server.upstream.targets import build_targets
from support.eventually import eventually, eventually_async
from support.pauses import stay_silent
from support.redis_group import RedisGroup
from support.router import server_entry

pytestmark = pytest.mark.anyio

SIZE = 3
INTERVAL = 0.1


@pytest.fixture
def anyio_backend() -> str:
    """Nothing here depends on the event loop."""
    return "asyncio"


class Routers:
    """Fleets of several processes over one simulated server, each of which follows the others in the background."""

    def __init__(self, group: Group, simulator: OllamaSimulator, **settings: Any) -> None:
        config = Config.model_validate({"servers": {"a": server_entry(simulator)}, **settings})
        self.simulator = simulator
        self.clock = SystemClock()
        self.members = [group.member(index) for index in range(SIZE)]
        self.upstream = HttptoolsUpstream()
        self.fleets = [
            FleetService(
                config=config,
                targets=build_targets(config, {}),
                upstream=self.upstream,
                clock=self.clock,
                coordination=member,
            )
            for member in self.members
        ]
        self.following: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Every process asks once for itself."""
        for member in self.members:
            await member.beat(self.clock.monotonic())
        self.following = [asyncio.create_task(self._follow(index)) for index in range(SIZE)]
        await asyncio.gather(*(fleet.start() for fleet in self.fleets))
        await eventually(lambda: all(member.members == SIZE for member in self.members))

    async def _follow(self, index: int) -> None:
        while True:
            await self.members[index].beat(self.clock.monotonic())
            self.fleets[index].follow(self.members[index].news())
            await stay_silent(0.01)  # between two beats

    async def stop(self, index: int) -> None:
        """A process is gone."""
        if not self.following[index].cancelled():
            self.following[index].cancel()
            await asyncio.gather(self.following[index], return_exceptions=True)
            await self.fleets[index].aclose()

    @property
    def poller(self) -> int:
        """Whose turn it is."""
        return next(index for index, fleet in enumerate(self.fleets) if fleet.turn("a") == 0)

    @property
    def polls(self) -> int:
        """Probes that the server has seen."""
        return len(self.simulator.requests_to("/api/version"))

    def probed_at(self, index: int) -> float:
        """When a process last knew the server to have answered."""
        return self.fleets[index].servers["a"].probed_at or 0.0


@asynccontextmanager
async def routers(group: Group, **settings: Any) -> AsyncIterator[Routers]:
    """Three, over a server with two models."""
    async with OllamaSimulator(models=[model("llama3.1:8b"), model("qwen3:8b")]) as simulator:
        made = Routers(group, simulator, **settings)
        try:
            await made.start()
            yield made
        finally:
            for index in range(SIZE):
                await made.stop(index)
            await made.upstream.aclose()


async def test_polls_seen_by_a_server_are_those_of_one(make_group: Callable[[int], Group]) -> None:
    """While all keep knowing how it is: three routers for themselves would ask three times as often."""
    async with routers(make_group(SIZE), health_check_interval=INTERVAL) as three:
        other = (three.poller + 1) % SIZE
        before, moments = three.polls, {three.probed_at(other)}

        def has_heard_of_five() -> bool:
            moments.add(three.probed_at(other))
            return len(moments) > 5

        await eventually(has_heard_of_five)
        assert three.polls - before <= 2 * 5
        states = [fleet.servers["a"] for fleet in three.fleets]
        assert [set(state.installed or ()) for state in states] == [{"llama3.1:8b", "qwen3:8b"}] * SIZE


async def test_where_the_poller_is_gone_another_goes_on(make_group: Callable[[int], Group]) -> None:
    """And the one that is left hears of it."""
    async with routers(make_group(SIZE), health_check_interval=INTERVAL) as three:
        gone = three.poller
        left = [index for index in range(SIZE) if index != gone]
        await three.stop(gone)
        before = three.polls
        stopped = three.clock.monotonic()
        await eventually(lambda: all(three.probed_at(index) > stopped for index in left))
        assert three.polls > before


async def test_what_one_asks_a_server_all_know(make_group: Callable[[int], Group]) -> None:
    """A pull through one router: the others list the model without having asked."""
    async with routers(make_group(SIZE), health_check_interval=600.0) as three:
        three.simulator.library.add(model("qwen3:8b").renamed("new:1b"))
        before, asked = three.polls, 0

        async def is_known_to_all() -> bool:  # clocks of machines agree to milliseconds: one round may seem too old
            nonlocal asked
            asked += 1
            assert await three.fleets[0].probe("a") is None
            return all("new:1b" in (fleet.servers["a"].installed or ()) for fleet in three.fleets)

        await eventually_async(is_known_to_all)
        assert three.polls == before + asked
        assert three.fleets[1].servers["a"].installed["new:1b"].facts is not None  # type: ignore[index]
        assert b"new:1b" in (three.fleets[1].last_reply("a", "/api/tags") or b"")


async def test_a_server_that_cannot_be_reached_from_here_is_not_believed_to_be_up(
    make_group: Callable[[int], Group],
) -> None:
    """Others may reach it; a process that cannot asks until it can."""
    async with routers(make_group(SIZE), health_check_interval=600.0) as three:
        three.fleets[0].state.probe_failed("a", "no route", now=three.clock.monotonic(), refused=True)
        before = three.probed_at(2)

        async def is_polled() -> bool:
            return await three.fleets[1].probe("a") is None and three.probed_at(2) > before

        await eventually_async(is_polled)
        assert three.fleets[0].servers["a"].up is False


async def test_while_the_store_is_away_each_polls_for_itself() -> None:
    """Nothing can be heard of the others."""
    group = RedisGroup("redis://127.0.0.1:1/0", SIZE, settled=False)
    async with OllamaSimulator(models=[]) as simulator:
        found = Routers(group, simulator)
        assert [fleet.turn("a") for fleet in found.fleets] == [0] * SIZE
        await found.upstream.aclose()
