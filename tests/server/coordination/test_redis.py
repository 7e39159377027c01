"""Coordination over Redis: what holds when routers are killed, when the store is slow, gone, or forgot everything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from ollama_router_core.coordination.days import DayBudget, DayUse
from ollama_router_core.coordination.interface import Scope
from ollama_router_core.coordination.news import FactsChanged
from ollama_router_core.fleet.summary import Summary
from ollama_router_server.coordination.redis_member import RedisMember
from support.eventually import eventually, eventually_async
from support.redis_group import PREFIX, RedisGroup
from support.redis_server import RedisServer

pytestmark = pytest.mark.anyio

MakeMembers = Callable[..., Any]


@pytest.fixture
def anyio_backend() -> str:
    """The server runs on asyncio."""
    return "asyncio"


@pytest.fixture
async def make_group(redis_server: RedisServer) -> AsyncIterator[Callable[..., RedisGroup]]:
    """Groups of so many members, with settings."""
    made: list[RedisGroup] = []

    def make(size: int, **settings: Any) -> RedisGroup:
        made.append(RedisGroup(redis_server.url, size, **settings))
        return made[-1]

    yield make
    for group in made:
        await group.aclose()


async def joined(group: RedisGroup) -> list[RedisMember]:
    """Every member, each of which knows of the others."""
    members = [group.redis(index) for index in range(group.size)]
    for member in (*members, *members):
        await member.beat(time.monotonic())
    return members


async def claimed(member: RedisMember, limit: int, *, server: str = "a", arrived: float | None = None) -> bool:
    """Whether a slot was granted."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    member.claim(Scope.SERVER, server, limit, answer.set_result, arrived=arrived)
    return await answer


async def beats(*members: RedisMember) -> None:
    """One beat of each."""
    for member in members:
        await member.beat(time.monotonic())


async def claimed_at_a_beat(member: RedisMember, limit: int, *, also: Sequence[RedisMember] = ()) -> bool:
    """One more attempt of those that a queue makes, and a heartbeat of all."""
    await beats(member, *also)
    return await claimed(member, limit)


async def test_many_claims_share_round_trips(make_group: Callable[..., RedisGroup]) -> None:
    """What is asked while an exchange is under way goes with the next one: 200 claims cost two."""
    (member,) = await joined(make_group(1))
    before = member.round_trips
    granted = await asyncio.gather(*(claimed(member, 150) for _ in range(200)))
    assert sum(granted) == 150
    assert member.round_trips - before <= 3


async def test_what_is_given_back_goes_with_the_next_question(make_group: Callable[..., RedisGroup]) -> None:
    """While nobody waits: a claim and a return after the other are one round trip each, not two."""
    member, other = await joined(make_group(2))
    before = member.round_trips
    for _ in range(20):
        assert await claimed(member, 1)
        member.give_back(Scope.SERVER, "a")
    assert member.round_trips - before <= 20
    await eventually_async(partial(claimed_at_a_beat, other, 1))


@pytest.mark.parametrize(("limit", "asked"), [(1, 0), (2, 1)])
async def test_a_slot_that_was_given_back_a_moment_ago_is_taken_again_without_asking(
    make_group: Callable[..., RedisGroup], monkeypatch: pytest.MonkeyPatch, limit: int, asked: int
) -> None:
    """It still counts for this member; where the limit is another one now, the store says whether it may be taken."""
    monkeypatch.setattr("ollama_router_server.coordination.redis_exchange._GIVEN_SOON", 3600.0)
    monkeypatch.setattr("ollama_router_server.coordination.redis_exchange._LINE_IS_KNOWN", 3600.0)
    member, other = await joined(make_group(2))
    assert await claimed(member, 1)
    member.give_back(Scope.SERVER, "a")
    before = member.round_trips
    assert await claimed(member, limit)
    assert member.round_trips - before == asked
    assert not await claimed(other, 1)
    member.give_back(Scope.SERVER, "a")
    await beats(member)
    assert await claimed(other, 1)


async def test_a_user_s_request_that_has_ended_is_given_back_before_the_next_is_counted(
    make_group: Callable[..., RedisGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request after the other is within a limit of one at once, however soon it follows."""
    monkeypatch.setattr("ollama_router_server.coordination.redis_exchange._GIVEN_SOON", 3600.0)
    member, other = await joined(make_group(2))
    for _ in range(3):
        assert await member.count("alice", time.monotonic(), concurrent=1, per_minute=None)
        assert not await other.count("alice", time.monotonic(), concurrent=1, per_minute=None)
        member.give_back(Scope.USER, "alice")


async def test_a_slot_that_others_wait_for_is_not_taken_again(
    make_group: Callable[..., RedisGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as this member knows that they do, which the next answer tells it, or when it has had none lately."""
    monkeypatch.setattr("ollama_router_server.coordination.redis_exchange._GIVEN_SOON", 3600.0)
    for known in (3600.0, -1.0):
        monkeypatch.setattr("ollama_router_server.coordination.redis_exchange._LINE_IS_KNOWN", known)
        member, other = await joined(make_group(2))
        assert await claimed(member, 1)
        since = time.monotonic()
        other.waits(since, {"a": since})
        await other.count_of("alice")
        if known > 0:
            await member.count_of("alice")
        member.give_back(Scope.SERVER, "a")
        assert not await claimed(member, 1, arrived=since + 1.0)
        assert await claimed(other, 1, arrived=since)
        for one in (member, other):
            await one.leave()


async def test_what_somebody_waits_for_is_given_back_at_once(
    make_group: Callable[..., RedisGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for no other question."""
    monkeypatch.setattr("ollama_router_server.coordination.redis_exchange._GIVEN_SOON", 3600.0)
    member, other = await joined(make_group(2))
    assert await claimed(member, 1)
    other.waits(1.0)
    await beats(other, member)
    member.give_back(Scope.SERVER, "a")
    await eventually_async(partial(claimed, other, 1))


async def test_what_a_killed_member_held_is_free_after_two_heartbeats(make_group: Callable[..., RedisGroup]) -> None:
    """Never earlier: until its lease expires its requests count, and nobody waits for its place in the line."""
    group = make_group(2, heartbeat=0.5)
    killed, other = await joined(group)
    assert await claimed(killed, 1)
    since = time.monotonic()
    group.forget(0)
    await eventually_async(partial(claimed_at_a_beat, other, 1))
    assert time.monotonic() - since >= 0.9
    assert other.elsewhere(Scope.SERVER, "a") == 0


async def test_a_member_that_leaves_frees_what_it_held_at_once(make_group: Callable[..., RedisGroup]) -> None:
    """A router that stops in order costs the others nothing."""
    leaving, other = await joined(make_group(2))
    assert await claimed(leaving, 1)
    assert not await claimed(other, 1)
    await leaving.leave()
    assert await claimed(other, 1)


async def test_a_slot_reserved_for_the_longest_wait_is_not_granted_to_others(
    make_group: Callable[..., RedisGroup],
) -> None:
    """It goes to the member that reserved it."""
    first, second = await joined(make_group(2))
    first.take(Scope.RESERVED, "a")
    await beats(first)
    assert not await claimed(second, 1)
    assert await claimed(first, 1)


async def test_others_are_told_when_a_slot_is_free(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """By a message, without a beat of theirs."""
    holder, waiting = await joined(make_group(2))
    stirred = asyncio.Event()
    waiting.on_change(stirred.set)
    assert await claimed(holder, 1)
    waiting.waits(1.0)
    await beats(waiting)
    with redis_server.client() as client:
        await eventually(lambda: client.pubsub_numsub(f"{PREFIX}stirred:router-1")[0][1] == 1)
    holder.give_back(Scope.SERVER, "a")
    async with asyncio.timeout(20):
        await stirred.wait()


class Messages:
    """What the store publishes to members of whom nobody listens any more."""

    def __init__(self, server: RedisServer) -> None:
        self._client = server.client()
        self._heard = self._client.pubsub()
        self._heard.psubscribe(f"{PREFIX}*")
        self._heard.get_message(timeout=5.0)

    def new(self) -> list[str]:
        """The members that were sent one since the last call, in order."""
        self._client.publish(f"{PREFIX}end", "")
        found: list[str] = []
        while True:
            message: Any = self._heard.get_message(timeout=5.0)
            channel = message["channel"].decode().removeprefix(PREFIX)
            if channel == "end":
                return found
            found.append(channel.removeprefix("stirred:"))

    def close(self) -> None:
        """Listen no more."""
        self._heard.close()
        self._client.close()


@pytest.fixture
def messages(redis_server: RedisServer) -> Iterator[Messages]:
    """All of the group."""
    listening = Messages(redis_server)
    yield listening
    listening.close()


async def freed(member: RedisMember) -> None:
    """Take a slot and give it back."""
    assert await claimed(member, 100)
    member.give_back(Scope.SERVER, "a")
    assert not await claimed(member, 0)


async def test_nobody_is_told_of_a_free_slot_while_nobody_waits(
    make_group: Callable[..., RedisGroup], messages: Messages
) -> None:
    """Giving back costs no message then, nor where only the giver waits."""
    holder, other = await joined(make_group(2))
    await freed(holder)
    holder.waits(1.0)
    await freed(holder)
    assert messages.new() == []
    other.drain("a", on=True)
    await beats(other)
    assert messages.new() == ["drained"]


async def test_who_was_told_is_told_no_more_until_it_has_looked(
    make_group: Callable[..., RedisGroup], messages: Messages
) -> None:
    """Ten slots that become free in one instant are one message to each that waits."""
    holder, *waiting, idle = await joined(make_group(4))
    for member in waiting:
        member.waits(1.0)
    await beats(*waiting, idle)
    for _ in range(10):
        await freed(holder)
    assert sorted(messages.new()) == ["router-1", "router-2"]
    await beats(waiting[0])
    await freed(holder)
    assert messages.new() == ["router-1"]


async def test_a_free_slot_is_told_to_the_member_that_is_next(
    make_group: Callable[..., RedisGroup], messages: Messages
) -> None:
    """A second one, before that has looked, to the one after it; one that nobody is known to wait for, to the rest."""
    holder, first, second, third = await joined(make_group(4))
    for member, since in ((first, 3.0), (second, 2.0), (third, 1.0)):
        member.waits(since, {} if member is third else {"a": since})
    await beats(first, second, third)
    told = []
    for _ in range(4):
        await freed(holder)
        told.append(messages.new())
    assert told == [["router-2"], ["router-1"], ["router-3"], []]


async def test_who_is_first_because_another_one_left_is_told(
    make_group: Callable[..., RedisGroup], messages: Messages
) -> None:
    """Nobody is where that one got a slot: a slot that was left to it is free only if it did not."""
    first, second, third = await joined(make_group(3))
    for member, since in ((first, 1.0), (second, 2.0), (third, 3.0)):
        member.waits(since, {"a": since})
    await beats(first, second, third)
    first.waits(1.5, {"a": 1.5})
    await beats(first)
    assert messages.new() == []
    first.waits(4.0, {"a": 4.0})
    await beats(first)
    assert messages.new() == ["router-1"]
    second.waits(2.0)
    await beats(second)
    assert messages.new() == ["router-2"]
    await beats(second, third)
    assert await claimed(third, 1, arrived=3.0)
    third.waits(None)
    await beats(third)
    assert messages.new() == []


async def in_line(*members: RedisMember, servers: str) -> None:
    """Each waits for all of the servers, in the order given, since second 1, 2, 3, and so on."""
    for since, member in enumerate(members, start=1):
        member.waits(since, dict.fromkeys(servers, float(since)))
    await beats(*members)


async def test_a_grant_at_one_server_is_told_to_nobody_who_waits_for_full_ones(
    make_group: Callable[..., RedisGroup], messages: Messages
) -> None:
    """What was first at all of them is first at none then, and there is nothing free for who is now."""
    holder, first, *others = await joined(make_group(6))
    for server in "abcdef":
        assert await claimed(holder, 1, server=server)
    await in_line(first, *others, servers="abcdef")
    holder.give_back(Scope.SERVER, "a")
    await beats(holder)
    assert messages.new() == ["router-1"]
    await beats(first)
    assert await claimed(first, 1, arrived=1.0)
    first.waits(9.0, dict.fromkeys("abcdef", 9.0))
    await beats(first)
    assert messages.new() == []


async def test_who_is_first_at_several_servers_now_is_told_once_and_nobody_else(
    make_group: Callable[..., RedisGroup], messages: Messages
) -> None:
    """Those behind it are first nowhere."""
    first, *others = await joined(make_group(4))
    await in_line(first, *others, servers="abc")
    first.waits(None)
    await beats(first)
    assert messages.new() == ["router-1"]


async def test_of_two_free_slots_one_is_for_the_second_in_line(
    make_group: Callable[..., RedisGroup], messages: Messages
) -> None:
    """One that leaves from the first two places is followed by the third; one from behind them by nobody."""
    first, *others = await joined(make_group(5))
    assert await claimed(first, 2)
    first.give_back(Scope.SERVER, "a")
    await beats(first)
    await in_line(first, *others, servers="a")
    others[2].waits(None)
    await beats(others[2])
    assert messages.new() == []
    first.waits(None)
    await beats(first)
    assert messages.new() == ["router-2"]


async def test_what_a_member_frees_that_is_next_itself_is_told_to_nobody(
    make_group: Callable[..., RedisGroup], messages: Messages
) -> None:
    """It has seen it; what it frees beyond that is for the others."""
    holder, other = await joined(make_group(2))
    for member, since in ((holder, 1.0), (other, 2.0)):
        member.waits(since, {"a": since})
    await beats(holder, other)
    await freed(holder)
    assert messages.new() == []
    await freed(holder)
    assert messages.new() == ["router-1"]


async def test_a_connection_that_the_store_closed_is_opened_anew(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next question, however soon after an answer it is: this member does not go alone for that."""
    monkeypatch.setattr("ollama_router_server.coordination.redis_store._SOUND_SECONDS", 3600.0)
    member, other = await joined(make_group(2))
    assert await claimed(member, 4)
    stream = member._exchange._store._connection._reader
    with redis_server.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    await eventually(lambda: bool(stream.at_eof()))
    with capture_logs() as logs:
        assert [await claimed(member, 4) for _ in range(3)] == [True, True, True]
    assert not member.away
    assert logs == []
    assert not await claimed(other, 4)


async def test_while_the_store_is_frozen_each_goes_by_its_share(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """Of a limit of 4 for two members 2, of a limit of 1 one; nothing hangs, and nothing is lost or doubled after."""
    members = await joined(make_group(2, timeout=0.1))
    assert await claimed(members[0], 4)
    redis_server.freeze()
    try:
        started = time.monotonic()
        granted = [await claimed(member, 4) for member in members for _ in range(3)]
        assert granted == [True, False, False, True, True, False]
        assert [(member.away, member.members) for member in members] == [(True, 2)] * 2
        assert members[0].elsewhere(Scope.SERVER, "a") == 2
        assert await members[0].count("alice", 0.0, concurrent=2, per_minute=None)
        assert not await members[0].count("alice", 0.0, concurrent=2, per_minute=None)
        assert time.monotonic() - started < 10.0
        members[1].drain("b", on=True)
        members[1].tell(FactsChanged("b"))
    finally:
        redis_server.thaw()
    await eventually(lambda: not any(member.away for member in members))
    await beats(*members, *members)
    assert [member.elsewhere(Scope.SERVER, "a") for member in members] == [2, 2]
    assert members[0].drained("b")
    assert FactsChanged("b") in members[0].news()


async def test_a_store_that_forgot_everything_grants_nothing_until_all_are_back(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """FLUSHALL in mid-traffic lets nobody pass a limit."""
    members = await joined(make_group(3))
    assert [await claimed(member, 3) for member in members] == [True] * 3
    with redis_server.client() as client:
        client.flushall()
    assert not any([await claimed(member, 3) for member in members])
    members[0].give_back(Scope.SERVER, "a")
    await eventually_async(partial(claimed_at_a_beat, members[1], 3, also=members))
    assert not any([await claimed(member, 3) for member in members])


async def test_what_was_in_flight_counts_while_the_store_is_away(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """One member has all four slots when Redis is stopped: the other takes none until the leases of then have ended."""
    full, other = await joined(make_group(2, timeout=0.2, heartbeat=0.3))
    assert [await claimed(full, 4) for _ in range(4)] == [True] * 4
    await beats(other)
    redis_server.stop()
    try:
        since = time.monotonic()
        assert not await claimed(other, 4)
        assert not await claimed(full, 4)
        assert other.elsewhere(Scope.SERVER, "a") == 4
        await eventually_async(partial(claimed_at_a_beat, other, 4))
        assert time.monotonic() - since >= 0.6
        assert [await claimed(other, 4), await claimed(other, 4)] == [True, False]
    finally:
        redis_server.start()


async def test_shares_of_a_limit_that_does_not_divide_add_up_to_it(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """Of five slots for three members two, two and one."""
    members = await joined(make_group(3, timeout=0.2))
    redis_server.stop()
    try:
        granted = [sum([await claimed(member, 5) for _ in range(5)]) for member in members]
    finally:
        redis_server.start()
    assert sorted(granted) == [1, 2, 2]


async def test_an_empty_store_is_not_believed_until_all_have_come_back(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """A member that finds it first does not take what another holds which has not come yet; nor does a newcomer."""
    group = make_group(3, timeout=0.2)
    early, late = await joined_first(group, 2)
    assert [await claimed(late, 4) for _ in range(2)] == [True] * 2
    await beats(early)
    silent = late._exchange._store._client
    late._exchange._store._client = _Unreachable()
    redis_server.stop()
    assert not await claimed(late, 4)
    redis_server.start()
    await eventually(lambda: not early.away)
    new = group.redis(2)
    await beats(new, early)
    assert [await claimed(early, 4) for _ in range(3)] == [True, False, False]
    assert not await claimed(new, 4)
    late._exchange._store._client = silent
    await eventually(lambda: not late.away)
    await beats(early, late, new, early, late, new)
    assert [await claimed(member, 4) for member in (new, early, late)] == [True, False, False]


async def joined_first(group: RedisGroup, count: int) -> list[RedisMember]:
    """The first members of a group, who know of each other."""
    members = [group.redis(index) for index in range(count)]
    await beats(*members, *members)
    return members


async def test_a_newcomer_hears_what_happened_since_the_summary(make_group: Callable[..., RedisGroup]) -> None:
    """So it does not go on with a suspension that ended meanwhile; what is in the summary is not told again."""
    group = make_group(3)
    teller, other = await joined_first(group, 2)
    other.tell(FactsChanged("before"))
    await beats(other, teller)
    assert teller.news() == [FactsChanged("before")]
    teller.remember(Summary())
    await beats(teller)
    other.tell(FactsChanged("since"))
    await beats(other)
    new = group.redis(2)
    await beats(new)
    assert new.remembered() == Summary()
    assert new.news() == [FactsChanged("since")]


async def test_members_come_back_without_a_storm(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """Each joins once, and what its queue asks for is one exchange more."""
    members = await joined(make_group(8, timeout=0.2))
    redis_server.stop()
    assert not any([await claimed(member, 0) for member in members])
    redis_server.start()
    await eventually(lambda: not any(member.away for member in members))
    await asyncio.gather(*(claimed(member, 4) for member in members for _ in range(20)))
    with redis_server.client() as client:
        stats: Any = client.info("commandstats")
    calls = sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))
    assert calls <= 4 * len(members)


async def test_a_member_cut_off_passes_a_limit_by_its_share_at_most(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """Split brain: the others see what it held until its lease expires; it goes on with its share alone."""
    cut, other = await joined(make_group(2, heartbeat=0.3, timeout=0.2))
    held = [await claimed(cut, 4) for _ in range(2)]
    await cut._exchange._store._client.aclose()
    cut._exchange._store._client = _Unreachable()
    assert not await claimed(cut, 4)
    assert (cut.away, cut.members) == (True, 2)
    granted = sum([await claimed(other, 4) for _ in range(4)])
    assert (sum(held), granted) == (2, 2)
    await eventually_async(partial(claimed_at_a_beat, other, 4))
    assert not await claimed(cut, 4)


class _Unreachable:
    """A client whose connections are never there."""

    @property
    def connection_pool(self) -> _Unreachable:
        return self

    async def get_connection(self, *_: object) -> Any:
        await asyncio.Event().wait()

    ensure_connection = get_connection

    def pubsub(self) -> Any:
        raise ConnectionError

    async def aclose(self) -> None:
        """Nothing is open."""


class _Late:
    """A connection to a store that does what it is asked; so many answers do not arrive."""

    def __init__(self, connection: Any) -> None:
        self._connection, self.lost = connection, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def read_response(self) -> Any:
        """Read an answer, which may be lost."""
        answer = await self._connection.read_response()
        if self.lost:
            self.lost -= 1
            await asyncio.Event().wait()
        return answer


@pytest.mark.parametrize("lost", [1, 2])
async def test_what_is_counted_without_an_answer_counts_once(make_group: Callable[..., RedisGroup], lost: int) -> None:
    """Tokens, what is taken back of them, and requests; also where the answer to joining anew is lost."""
    member, other = await joined(make_group(2))
    store = member._exchange._store
    store._timeout = store._connect_timeout = 0.2
    late = store._connection = _Late(store._connection)
    moments: list[float | None] = []

    async def joined_again(answers: int) -> None:
        await eventually(lambda: late.lost == 0 and not member.away and member.round_trips > answers)
        await other.count_of("alice")

    def spent() -> int:
        return sum(row.tokens for row in other.spent("alice", time.monotonic()))

    late.lost, answers = lost, member.round_trips
    member.charge("alice", 0.0, 300, per_minute=1_000, days=None, done=moments.append)
    assert await member.count("alice", 0.0, concurrent=None, per_minute=10)
    await joined_again(answers)
    assert spent() == 300
    assert sum(row.requests for row in other.admissions("alice", time.monotonic())) == 1
    (moment,) = moments
    assert moment is not None
    late.lost, answers = lost, member.round_trips
    member.spend("alice", moment, -250)
    await joined_again(answers)
    assert spent() == 50


KNOWN = DayUse(20_440, 0, 0)
"""What the database says of a day."""


async def charged_to_day(member: RedisMember, tokens: int, limit: int, *, known: DayUse = KNOWN) -> bool:
    """Whether tokens were granted."""
    answer: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
    days = DayBudget(limit, None, known)
    member.charge("alice", 0.0, tokens, per_minute=None, days=days, done=answer.set_result)
    return await answer is not None


@pytest.mark.parametrize("lost", [1, 2])
async def test_tokens_of_a_day_without_an_answer_count_once(make_group: Callable[..., RedisGroup], lost: int) -> None:
    """Those that were granted alone, since nobody knew, and what is taken back of them."""
    member, other = await joined(make_group(2))
    store = member._exchange._store
    store._timeout = store._connect_timeout = 0.2
    late = store._connection = _Late(store._connection)
    for change, expected in ((300, 300), (-250, 50)):
        late.lost, answers = lost, member.round_trips
        if change > 0:
            assert await charged_to_day(member, change, 1_000)
        else:
            member.use("alice", time.monotonic(), KNOWN.day, change, KNOWN)
        await eventually(lambda answers=answers: late.lost == 0 and not member.away and member.round_trips > answers)
        await beats(member)
        assert not await charged_to_day(other, 1, expected)
        assert other.used("alice", time.monotonic(), KNOWN) == DayUse(KNOWN.day, expected, 0)


async def test_a_store_that_forgot_is_told_what_the_database_knows_of_a_day(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """With the next tokens that are counted: nobody begins with nothing."""
    members = await joined(make_group(2))
    assert await charged_to_day(members[0], 90, 100)
    with redis_server.client() as client:
        client.flushall()
        client.set(f"{PREFIX}epoch", 1)
    await beats(*members, *members)
    assert await charged_to_day(members[0], 5, 100, known=KNOWN._replace(today=90))
    assert await charged_to_day(members[1], 5, 100)
    assert not await charged_to_day(members[1], 1, 100)


async def test_what_was_counted_of_a_day_before_others_began_anew_is_the_database_s_to_tell(
    make_group: Callable[..., RedisGroup],
) -> None:
    """A member that was away longer does not add what they may have read of it: the next count begins anew, too."""
    late, other = await joined(make_group(2))
    assert await charged_to_day(other, 40, 100)
    late.use("alice", time.monotonic() - 60.0, KNOWN.day, 30, KNOWN)
    await beats(late)
    assert await charged_to_day(other, 1, 71, known=KNOWN._replace(today=70))
    assert not await charged_to_day(late, 1, 71)


@pytest.mark.parametrize("lost", [1, 2])
async def test_news_without_an_answer_are_heard_once(make_group: Callable[..., RedisGroup], lost: int) -> None:
    """In order; also where the answer to joining anew is lost."""
    member, other = await joined(make_group(2))
    store = member._exchange._store
    store._timeout = store._connect_timeout = 0.2
    late = store._connection = _Late(store._connection)
    late.lost, answers = lost, member.round_trips
    told = [FactsChanged(name) for name in "abc"]
    for news in told[:2]:
        member.tell(news)
    await eventually(lambda: late.lost == 0 and not member.away and member.round_trips > answers)
    member.tell(told[2])
    await beats(member, other)
    assert other.news() == told


@pytest.mark.parametrize("shift", [0.49, -0.49])
async def test_what_was_charged_alone_is_taken_back_from_its_second(
    make_group: Callable[..., RedisGroup], shift: float
) -> None:
    """Also when the store's clock was read anew meanwhile, a little differently."""
    member = make_group(1).redis(0)
    charged: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
    member.charge("alice", 0.0, 300, per_minute=1_000, days=None, done=charged.set_result)
    moment = await charged
    assert moment is not None
    member._exchange.clock.offset += shift
    member.spend("alice", moment, -300)
    assert not sum(row.tokens for row in member.spent("alice", time.monotonic()))


async def test_a_restarted_store_is_joined_again(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """An empty one: every member tells what it holds."""
    members = await joined(make_group(2, timeout=0.2))
    assert await claimed(members[0], 2)
    redis_server.stop()
    assert await claimed(members[1], 2)
    redis_server.start()
    await eventually(lambda: not any(member.away for member in members))
    await beats(*members, *members)
    assert [member.elsewhere(Scope.SERVER, "a") for member in members] == [1, 1]


async def test_a_store_away_at_start_does_not_hold_up_a_router(
    make_group: Callable[..., RedisGroup], redis_server: RedisServer
) -> None:
    """It is alone, with all of each limit, until the store is there."""
    group = make_group(1)
    redis_server.stop()
    try:
        member = group.redis(0)
        await beats(member)
        assert (member.away, member.members) == (True, 1)
        assert await claimed(member, 1)
        assert not await claimed(member, 1)
    finally:
        redis_server.start()
    await eventually(lambda: not member.away)
