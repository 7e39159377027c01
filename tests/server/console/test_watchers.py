"""Watchers by themselves: changes become one, one that does not read is cut, and they are few."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

import pytest
from msgspec import structs

from ollama_router_core.errors import LimitExceeded
from ollama_router_server.console.watchers import START, Event, Watchers
from ollama_router_server.storage.identities import User
from support.eventually import eventually
from support.storage import FakeClock

pytestmark = pytest.mark.anyio

ROOT = User(id=1, name="root", role="admin", active=True, token_id=1)
BY_HAND = 3_600.0
"""Seconds between two looks in tests, which look themselves."""


class Pages:
    """Versions that a test sets; `asked` counts how often anybody asked for one."""

    def __init__(self) -> None:
        self.versions: dict[str, Hashable] = {"now": 0, "servers": 0}
        self.asked = 0

    async def version(self, topic: str, user: User) -> Hashable:
        """As the test says."""
        self.asked += 1
        return self.versions[topic]


async def still() -> bool:
    """A session that stays."""
    return True


async def read(watchers: Watchers, heard: list[Event], session: str = "s", stop: asyncio.Event | None = None) -> None:
    """A tab: it reads what it is told; with `stop` it reads nothing more until that is set."""
    watcher = await watchers.join(session, ROOT, ("now", "servers"), still)
    async for told in watchers.follow(watcher):
        heard.append(told)
        if stop is not None:
            await stop.wait()


async def test_changes_until_it_reads_are_one() -> None:
    """However many there were: a set of names, never a backlog."""
    pages, heard, stop = Pages(), list[Event](), asyncio.Event()
    watchers = Watchers(pages, FakeClock(), tick=BY_HAND)
    tab = asyncio.create_task(read(watchers, heard, stop=stop))
    await eventually(lambda: heard == [()])
    for number in range(1, 50):
        pages.versions = {"now": number, "servers": number}
        await watchers.look()
    stop.set()
    await eventually(lambda: len(heard) > 1)
    assert heard == [(), ("now", "servers")]
    tab.cancel()


async def test_of_start_everybody_sees_the_own_part() -> None:
    """Two admins, who see the same of all other pages, are each told what is in progress of theirs."""

    class Own(Pages):
        async def version(self, topic: str, user: User) -> Hashable:
            return self.versions[f"{topic} of {user.name}"]

    pages, told = Own(), dict[str, list[Event]](root=[], eve=[])
    pages.versions = {"start of root": 1, "start of eve": 1}
    watchers = Watchers(pages, FakeClock(), tick=BY_HAND)

    async def follow(user: User) -> None:
        async for one in watchers.follow(await watchers.join(user.name, user, (START,), still)):
            told[user.name].append(one)

    tabs = [asyncio.create_task(follow(user)) for user in (ROOT, structs.replace(ROOT, name="eve"))]
    await eventually(lambda: told == {"root": [()], "eve": [()]})
    pages.versions["start of eve"] = 2
    await watchers.look()
    await eventually(lambda: told["eve"] == [(), (START,)])
    assert told["root"] == [()]
    for tab in tabs:
        tab.cancel()


async def test_one_that_does_not_read_is_cut() -> None:
    """After ten seconds, and counted; others go on, whom it does not hold up."""
    pages, clock, heard = Pages(), FakeClock(), list[Event]()
    watchers = Watchers(pages, clock, tick=BY_HAND)
    slow = asyncio.create_task(read(watchers, [], stop=asyncio.Event()))
    quick = asyncio.create_task(read(watchers, heard))
    await eventually(lambda: watchers.now == 2 and heard == [()])
    clock.advance(11.0)
    pages.versions["now"] = "else"
    await watchers.look()
    await eventually(slow.done)
    assert slow.cancelled()
    assert (watchers.now, watchers.cut) == (1, 1)
    await eventually(lambda: heard == [(), ("now",)])
    quick.cancel()
    await eventually(lambda: watchers.now == 0)


async def test_a_stream_ends_within_two_seconds_of_its_session() -> None:
    """By the router's own clock, in the looks that it has anyway, whatever the machine has to do beside."""
    clock, heard, signed_in = FakeClock(), list[Event](), [True]

    async def is_in() -> bool:
        return signed_in[0]

    watchers = Watchers(Pages(), clock, tick=BY_HAND)
    watcher = await watchers.join("s", ROOT, ("now",), is_in)

    async def follow() -> None:
        async for told in watchers.follow(watcher):
            heard.append(told)

    tab = asyncio.create_task(follow())
    await eventually(lambda: heard == [()])
    await watchers.look()
    signed_in[0] = False
    for _ in range(4):
        clock.advance(0.5)
        await watchers.look()
    await tab
    assert heard[-1] is None
    assert watchers.now == 0


async def test_sixty_four_in_all() -> None:
    """Whatever sessions they are of."""
    watchers = Watchers(Pages(), FakeClock(), tick=BY_HAND)
    tabs = [asyncio.create_task(read(watchers, [], str(number))) for number in range(64)]
    await eventually(lambda: watchers.now == 64)
    with pytest.raises(LimitExceeded):
        await read(watchers, [], "one more")
    for tab in tabs:
        tab.cancel()


async def test_a_page_is_looked_at_once_for_all_who_see_the_same() -> None:
    """Twenty tabs of viewers cost what one does."""
    pages = Pages()
    watchers = Watchers(pages, FakeClock(), tick=BY_HAND)
    tabs = [asyncio.create_task(read(watchers, [], str(number))) for number in range(20)]
    await eventually(lambda: watchers.now == 20)
    pages.asked = 0
    await watchers.look()
    assert pages.asked == len(pages.versions)
    for tab in tabs:
        tab.cancel()
