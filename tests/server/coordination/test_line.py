"""One line over routers on a Redis: who waits longest for a server gets its slot, whoever asks first."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ollama_router_core.coordination.interface import Scope
from ollama_router_server.coordination import redis_store
from ollama_router_server.coordination.redis_member import RedisMember
from support.eventually import eventually_async
from support.redis_group import RedisGroup
from support.redis_server import RedisServer

pytestmark = pytest.mark.anyio

MakeGroup = Callable[..., RedisGroup]


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio."""
    return "asyncio"


@pytest.fixture
async def make_group(redis_server: RedisServer) -> AsyncIterator[MakeGroup]:
    """Groups of so many members, with settings."""
    made: list[RedisGroup] = []

    def make(size: int, **settings: Any) -> RedisGroup:
        made.append(RedisGroup(redis_server.url, size, **settings))
        return made[-1]

    yield make
    for group in made:
        await group.aclose()


class Waiting:
    """The requests that wait at one router for servers, each by when it arrived."""

    def __init__(self, member: RedisMember) -> None:
        self.member = member
        self.arrived: dict[str, list[float]] = {}

    async def joins(self, arrived: float, server: str = "a") -> None:
        """One more waits, which the store knows."""
        self.arrived.setdefault(server, []).append(arrived)
        await self.announce()

    async def announce(self) -> None:
        """Tell who is first."""
        heads = {server: min(line) for server, line in self.arrived.items() if line}
        self.member.waits(min(heads.values(), default=None), heads)
        await self.member.count_of("anybody")

    async def asks(self, limit: int, server: str = "a", *, last: bool = False) -> float | None:
        """Ask for a slot for its first request, or its `last`; returns when that arrived, None if it was refused."""
        line = self.arrived.get(server, [])
        if not line:
            return None
        arrived = max(line) if last else min(line)
        if not await claim(self.member, server, limit, arrived):
            return None
        line.remove(arrived)
        await self.announce()
        return arrived


async def claim(member: RedisMember, server: str, limit: int, arrived: float | None) -> bool:
    """Whether a slot was granted."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    member.claim(Scope.SERVER, server, limit, answer.set_result, arrived=arrived)
    return await answer


async def routers(group: RedisGroup) -> list[Waiting]:
    """All members, each of which knows of the others; none of them beats from now on."""
    members = [group.redis(index) for index in range(group.size)]
    for member in (*members, *members):
        await member.beat(time.monotonic())
    return [Waiting(member) for member in members]


@pytest.mark.parametrize("limit", [1, 2])
async def test_requests_that_arrive_by_turns_at_three_routers_are_served_in_that_order(
    make_group: MakeGroup, limit: int
) -> None:
    """Without a beat, in whatever order the routers ask; a newcomer overtakes nobody."""
    chance = random.Random(limit)  # noqa: S311 - of a test
    holder, *waiting = await routers(make_group(4))
    now = time.monotonic()
    for _ in range(limit):
        assert await claim(holder.member, "a", limit, now)
    arrivals = [now + number / 10 for number in range(9)]
    for number, arrived in enumerate(arrivals):
        await waiting[number % 3].joins(arrived)
    await holder.announce()  # so it hears that somebody waits
    served: list[float] = []
    holding = [holder.member] * limit
    while len(served) < len(arrivals):
        holding.pop(0).give_back(Scope.SERVER, "a")
        assert not await claim(holder.member, "a", limit, now + 60.0)
        for router in chance.sample(waiting, 3) * 3:
            arrived = await router.asks(limit)
            if arrived is not None:
                served.append(arrived)
                holding.append(router.member)
    assert served == arrivals


async def test_a_router_has_one_turn_for_its_first_request_whichever_of_its_own_it_sends(make_group: MakeGroup) -> None:
    """Its queue decides who goes; the next turn is that of the router whose first has waited longest then."""
    one, other = await routers(make_group(2))
    now = time.monotonic()
    for number in (0, 2):
        await one.joins(now + number)
    await other.joins(now + 1)
    assert await other.asks(1) is None
    assert await one.asks(1, last=True) == now + 2
    one.member.give_back(Scope.SERVER, "a")
    assert await one.asks(1) == now
    one.member.give_back(Scope.SERVER, "a")
    assert await other.asks(1) == now + 1


async def test_who_waits_for_another_server_is_in_nobody_s_way(make_group: MakeGroup) -> None:
    """Nor who does not wait any more."""
    one, other = await routers(make_group(2))
    now = time.monotonic()
    await one.joins(now, "b")
    await other.joins(now + 1)
    assert await other.asks(1) == now + 1
    other.member.give_back(Scope.SERVER, "a")
    await one.joins(now)
    await other.joins(now + 1)
    assert await other.asks(1) is None
    one.arrived.clear()
    await one.announce()
    assert await other.asks(1) == now + 1


async def test_a_retry_on_another_server_waits_for_nobody_in_the_line(make_group: MakeGroup) -> None:
    """It has waited before, and has ten seconds."""
    one, other = await routers(make_group(2))
    await one.joins(time.monotonic())
    assert await claim(other.member, "a", 1, None)


async def test_a_request_of_a_batch_lets_all_others_go_first(make_group: MakeGroup) -> None:
    """Also those that arrive later."""
    one, other = await routers(make_group(2))
    await one.joins(time.monotonic() + 60.0)
    assert not await claim(other.member, "a", 1, float("inf"))
    assert await claim(other.member, "a", 2, float("inf"))


async def test_nobody_waits_for_a_router_that_is_gone(make_group: MakeGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing, so its first request is nobody's any more; long before its lease ends."""
    monkeypatch.setattr(redis_store, "_PATIENCE_MS", 100)
    group = make_group(2)
    gone, other = await routers(group)
    now = time.monotonic()
    await gone.joins(now)
    await other.joins(now + 1)
    group.forget(0)

    async def is_served() -> bool:
        return await other.asks(1) is not None

    await eventually_async(is_served)


async def test_the_line_is_told_to_a_store_that_forgot_it(make_group: MakeGroup, redis_server: RedisServer) -> None:
    """With all that a member holds."""
    one, other = await routers(make_group(2))
    now = time.monotonic()
    await one.joins(now)
    await other.joins(now + 1)
    with redis_server.client() as client:
        client.flushall()
        client.set("orouter:{default}:epoch", 1)
    for router in (one, other, one, other):
        await router.member.beat(time.monotonic())
    assert await other.asks(1) is None
    assert await one.asks(1) == now
