"""What every implementation of `Coordination` promises: each test runs in memory, on shared memory and on Redis.

Between machines changes travel with beats, and time is the store's: what needs another time runs on the first two.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.coordination.days import DAYS_KEPT, DayBudget, DayUse
from ollama_router_core.coordination.interface import LEASE_SECONDS, Admissions, Coordination, Figure, Group, Scope
from ollama_router_core.coordination.news import (
    BreakerClosed,
    BreakerOpened,
    FactsChanged,
    LoadBegan,
    News,
    PrefixHeld,
    PromptKept,
    ServerPolled,
    SpeedLearned,
    TokenVerified,
    TurnsTaken,
)
from ollama_router_core.fleet.rounds import Reply, Round
from ollama_router_core.fleet.runners import Load
from ollama_router_core.fleet.snapshot import ModelFacts
from ollama_router_core.fleet.speeds import Sample
from ollama_router_core.fleet.summary import Summary, Suspension
from support.eventually import eventually

pytestmark = pytest.mark.anyio

LOCAL = ("in process", "shared memory")
MakeGroup = Callable[[int], Group]
Exchange = Callable[[], Awaitable[None]]
POLLED = Round(
    at=11.5,
    probe_ms=0.5,
    version=b'{"version":"0.32.0"}',
    replies=(Reply("/api/tags", b'{"models":[' + b" " * 40_000 + b"]}", asked=11.5, at=12.5),),
    learned={canonical_name("llama3.1:8b"): ModelFacts(block_count=32, capabilities=frozenset({"completion"}))},
)
NEWS = [
    BreakerOpened("a", 12.5, 2, refused=True),
    BreakerClosed("a"),
    FactsChanged("b"),
    LoadBegan("a", canonical_name("llama3.1:8b"), Load(4096, frozenset({("num_gpu", 1)}))),
    PrefixHeld("a", canonical_name("llama3.1:8b"), 2**64 - 1, 500),
    PromptKept("a", canonical_name("llama3.1:8b"), 0.5),
    ServerPolled("a", POLLED),
    SpeedLearned("a", "llama3.1:8b", Sample(output_tokens=10, output_ns=1_000_000)),
    TokenVerified(b"k" * 32, 7, b"p" * 16),
    TurnsTaken({"alice": 12.5}),
]


@pytest.fixture
def anyio_backend() -> str:
    """Nothing here depends on the event loop."""
    return "asyncio"


@pytest.fixture
def group(make_group: MakeGroup) -> Group:
    """Three members."""
    return make_group(3)


@pytest.fixture
async def members(group: Group, kind: str) -> list[Coordination]:
    """Their views, after a first beat between machines."""
    found = [group.member(index) for index in range(3)]
    if kind == "redis":
        for member in found:
            await member.beat(100.0)
    return found


@pytest.fixture
def exchange(members: list[Coordination], kind: str) -> Exchange:
    """Let what was done reach the others: each member beats, twice; nothing where memory is shared."""

    async def beat() -> None:
        if kind == "redis":
            for member in [*members, *members]:
                await member.beat(100.0)

    return beat


async def test_members_know_who_they_are_and_share_a_secret(members: list[Coordination]) -> None:
    """Index, size, name and secret; no secret in a repr."""
    assert [(member.index, member.size) for member in members] == [(0, 3), (1, 3), (2, 3)]
    assert len({member.group for member in members}) == len({member.secret for member in members}) == 1
    assert all(len(member.secret) == 32 for member in members)
    assert not any(repr(member.secret) in repr(member) for member in members)


@pytest.mark.parametrize("scope", Scope)
async def test_requests_in_flight_of_the_others_add_up(
    members: list[Coordination], exchange: Exchange, scope: Scope
) -> None:
    """A member's own are not among them; scopes and names are apart."""
    for count, member in enumerate(members, 1):
        for _ in range(count):
            member.take(scope, "a")
    members[2].give_back(scope, "a")
    await exchange()
    assert [member.elsewhere(scope, "a") for member in members] == [4, 3, 3]
    assert members[0].elsewhere(scope, "b") == 0
    members[1].take(scope, "c")
    members[0].take(scope, "own")
    await exchange()
    assert members[0].all_elsewhere(scope, ["b", "own", "c", "a"]) == {"a": 4, "c": 1}
    assert members[0].all_elsewhere(scope, ["b"]) == {}
    members[1].give_back(scope, "c")
    assert not any(members[0].elsewhere(other, "a") for other in set(Scope) - {scope})


async def test_a_count_is_never_negative(members: list[Coordination], exchange: Exchange) -> None:
    """Giving back what was not taken changes nothing."""
    members[1].give_back(Scope.SERVER, "a")
    members[1].take(Scope.SERVER, "a")
    await exchange()
    assert members[0].elsewhere(Scope.SERVER, "a") == 1


async def test_a_slot_is_claimed_by_one_of_those_who_want_it(members: list[Coordination], exchange: Exchange) -> None:
    """Of nine claims to two slots two are granted, whoever makes them; a slot given back is granted again."""
    await exchange()
    granted: list[tuple[int, bool]] = []
    for number in range(9):
        member = members[number % 3]
        member.claim(Scope.SERVER, "a", 2, lambda taken, index=member.index: granted.append((index, taken)))
    await eventually(lambda: len(granted) == 9)
    holders = [index for index, taken in granted if taken]
    assert len(holders) == 2
    members[holders[0]].give_back(Scope.SERVER, "a")
    await exchange()
    assert sum([member.elsewhere(Scope.SERVER, "a") for member in members]) == 2
    members[0].claim(Scope.SERVER, "a", 2, lambda taken: granted.append((0, taken)))
    await eventually(lambda: len(granted) == 10)
    assert granted[-1] == (0, True)


async def test_a_users_requests_are_counted_by_all_together(members: list[Coordination], exchange: Exchange) -> None:
    """Neither more at once nor more in a minute than allowed; what was refused counts nowhere."""

    async def count(index: int, **limits: int | None) -> bool:
        allowed = {"concurrent": None, "per_minute": None, **limits}
        return await members[index].count("alice", 100.0, **allowed)

    await exchange()
    assert [await count(index % 3, concurrent=4) for index in range(6)] == [True] * 4 + [False] * 2
    members[2].give_back(Scope.USER, "alice")
    await exchange()
    assert await count(0, concurrent=4, per_minute=6)
    for index in (0, 1, 0, 0):
        members[index].give_back(Scope.USER, "alice")
    await exchange()
    assert [member.elsewhere(Scope.USER, "alice") for member in members] == [0, 0, 0]
    assert [await count(index % 3, per_minute=6) for index in range(3)] == [True, False, False]
    assert sum(row.requests for row in members[1].admissions("alice", 100.0)) >= 4


async def test_a_minute_s_tokens_are_counted_by_all_together(members: list[Coordination], exchange: Exchange) -> None:
    """Of thirty requests for 100 of 1,000 tokens ten are; what is taken back, or used beyond that, counts at once."""
    counted: list[tuple[int, float | None]] = []

    async def charge(index: int, tokens: int) -> float | None:
        so_far = len(counted)
        members[index].charge(
            "alice", 100.0, tokens, per_minute=1_000, days=None, done=lambda at: counted.append((index, at))
        )
        await eventually(lambda: len(counted) > so_far)
        return counted[-1][1]

    await exchange()
    for number in range(30):
        index = number % 3
        members[index].charge(
            "alice", 100.0, 100, per_minute=1_000, days=None, done=lambda at, index=index: counted.append((index, at))
        )
    await eventually(lambda: len(counted) == 30)
    granted = [(index, at) for index, at in counted if at is not None]
    assert len(granted) == 10
    index, at = granted[0]
    members[index].spend("alice", at, -50)
    await exchange()
    assert await charge((index + 1) % 3, 51) is None
    assert await charge((index + 1) % 3, 50) is not None
    members[2].spend("alice", at + 0.1, 500)
    members[2].spend("bob", at, 500)
    await exchange()
    assert await charge(0, 1) is None
    assert sum(row.tokens for row in members[0].spent("alice", at)) == 1_500
    assert all(row.moment <= at for row in members[0].spent("alice", at))


DAY, EARLIER, NEXT_DAY, NEXT_MONTH = 20_453, 20_452, 20_454, 20_486
"""31 December 2025 is day 20453, so the next one is in another month; in days since 1970."""


class Day:
    """A user's tokens of a day and its month, as members count them in common; the database says `known`."""

    def __init__(self, members: list[Coordination], exchange: Exchange) -> None:
        self.members, self.exchange = members, exchange
        self.known = DayUse(20_440, 0, 0)
        self.now = time.monotonic()  # between machines what was counted before the others began is left out

    async def charge(
        self, index: int, tokens: int, *, day: int | None = None, month: int | None = None, minute: int | None = None
    ) -> bool:
        """Ask for tokens."""
        answers: list[float | None] = []
        self.members[index].charge(
            "alice", self.now, tokens, per_minute=minute, days=DayBudget(day, month, self.known), done=answers.append
        )
        await eventually(lambda: bool(answers))
        return answers[0] is not None

    def use(self, index: int, tokens: int, *, day: int | None = None) -> None:
        """Count tokens without asking."""
        self.members[index].use("alice", self.now, day or self.known.day, tokens, self.known)

    def used(self, index: int) -> DayUse:
        """What a member knows that all have used."""
        return self.members[index].used("alice", self.now, self.known)


@pytest.fixture
async def a_day(members: list[Coordination], exchange: Exchange) -> Day:
    """Nothing is used yet."""
    await exchange()
    return Day(members, exchange)


async def test_tokens_of_a_day_are_refused_at_once_by_who_did_not_count_them(a_day: Day) -> None:
    """While anything is left; the next one is refused by all, though the database has told none of them."""
    assert [await a_day.charge(index, 40, day=100) for index in (0, 1, 2)] == [True] * 3
    assert [await a_day.charge(index, 1, day=100) for index in (0, 1, 2)] == [False] * 3
    assert {a_day.used(index) for index in range(3)} == {DayUse(20_440, 120, 0)}


async def test_what_is_settled_of_a_day_counts_at_once_for_all(a_day: Day) -> None:
    """What was too much is free again, what was used beyond that is not."""
    assert await a_day.charge(0, 100, day=100)
    a_day.use(0, -70)
    await a_day.exchange()
    assert await a_day.charge(1, 10, day=100)
    a_day.use(1, 60)
    await a_day.exchange()
    assert not await a_day.charge(2, 1, day=100)
    assert a_day.used(2) == DayUse(20_440, 100, 0)


async def test_of_many_that_ask_at_once_for_a_day_s_tokens_those_are_refused_that_find_nothing_left(a_day: Day) -> None:
    """Each member asks ten times for 100 of 1,000 tokens: ten are granted."""
    answers: list[float | None] = []
    budget = DayBudget(1_000, None, a_day.known)
    for number in range(30):
        member = a_day.members[number % 3]
        member.charge("alice", a_day.now, 100, per_minute=None, days=budget, done=answers.append)
    await eventually(lambda: len(answers) == 30)
    assert sum(at is not None for at in answers) == 10


async def test_what_the_database_knows_of_a_day_is_where_the_count_begins(a_day: Day) -> None:
    """And no more than that: what it has learned meanwhile is counted already."""
    a_day.known = DayUse(20_440, 90, 0)
    assert await a_day.charge(0, 5, day=100)
    a_day.known = DayUse(20_440, 95, 0)
    assert await a_day.charge(1, 5, day=100)
    assert not await a_day.charge(2, 1, day=100)
    assert await a_day.charge(2, 1, day=101)


async def test_a_month_has_its_days_and_a_new_day_begins_with_nothing(a_day: Day) -> None:
    """A request that ends on the day after counts for the day on which it was charged, while that is in the month."""
    a_day.known = DayUse(EARLIER, 0, 30)
    assert await a_day.charge(0, 50, day=50, month=100)
    assert not await a_day.charge(1, 1, day=50, month=100)
    a_day.known = DayUse(DAY, 0, 0)  # as of a database that has not heard of it
    assert await a_day.charge(1, 10, day=50, month=100)
    a_day.use(0, 10, day=EARLIER)
    await a_day.exchange()
    assert not await a_day.charge(2, 1, day=50, month=100)
    assert a_day.used(2) == DayUse(DAY, 10, 90)
    a_day.known = DayUse(NEXT_DAY, 0, 0)
    a_day.use(0, 10, day=DAY)
    await a_day.exchange()
    assert await a_day.charge(2, 7, day=50, month=100)
    assert a_day.used(2) == DayUse(NEXT_DAY, 7, 0)
    a_day.known = DayUse(NEXT_MONTH, 0, 0)
    assert await a_day.charge(0, 3, day=50, month=100)
    assert a_day.used(0) == DayUse(NEXT_MONTH, 3, 0)


async def test_tokens_count_for_the_minute_and_the_day_or_for_neither(a_day: Day) -> None:
    """Whichever of them leaves no room."""
    assert await a_day.charge(0, 80, day=100, minute=100)
    assert not await a_day.charge(1, 30, day=1_000, minute=100)
    a_day.use(2, 20)
    await a_day.exchange()
    assert not await a_day.charge(1, 20, day=100, minute=100)
    assert await a_day.charge(1, 20, day=1_000, minute=100)
    assert a_day.used(1) == DayUse(20_440, 120, 0)


@pytest.mark.parametrize("kind", LOCAL, indirect=True)
async def test_where_nothing_was_counted_lately_the_database_is_right(members: list[Coordination]) -> None:
    """It has everything by then, also of a member that is gone, or has written less than it counted."""
    one, other, _ = members
    one.use("alice", 100.0, 20_440, 70, DayUse(20_440, 0, 0))
    at = 100.0 + DAYS_KEPT
    assert other.used("alice", at - 0.1, DayUse(20_440, 50, 0)) == DayUse(20_440, 70, 0)
    assert other.used("alice", at + 0.1, DayUse(20_440, 50, 0)) == DayUse(20_440, 50, 0)


async def test_who_asks_learns_what_a_user_has_used_elsewhere(members: list[Coordination], exchange: Exchange) -> None:
    """Also a member at which this user has asked for nothing; of whom nobody knows, nothing."""
    await exchange()
    at = time.monotonic()  # between machines what is older than a minute is not kept
    members[1].admit("alice", at)
    members[1].take(Scope.USER, "alice")
    members[2].spend("alice", at, 70)
    await exchange()
    for name, held, requests, tokens in (("alice", 1, 1, 70), ("bob", 0, 0, 0)):
        await members[0].count_of(name)
        assert members[0].elsewhere(Scope.USER, name) == held
        assert sum(row.requests for row in members[0].admissions(name, at)) == requests
        assert sum(row.tokens for row in members[0].spent(name, at)) == tokens


async def test_an_empty_minute_has_room_for_a_request_of_any_size(
    members: list[Coordination], exchange: Exchange
) -> None:
    """Once; nothing is taken back of what was not counted, and a limit of 0 has no room."""
    counted: list[float | None] = []
    await exchange()
    members[0].spend("alice", 100.0, -70)
    await exchange()
    for index, per_minute in ((0, 0), (1, 10), (2, 10)):
        members[index].charge("alice", 100.0, 5_000, per_minute=per_minute, days=None, done=counted.append)
        await eventually(lambda index=index: len(counted) == index + 1)
    assert [at is None for at in counted] == [True, False, True]


@pytest.mark.parametrize("kind", LOCAL, indirect=True)
async def test_tokens_leave_the_minute_and_outlive_their_member(group: Group, members: list[Coordination]) -> None:
    """By the second; a process that was killed leaves what it charged."""
    members[1].spend("alice", 100.2, 40)
    members[1].spend("alice", 130.0, 2)
    group.forget(1)
    assert list(members[0].spent("alice", 130.0)) == [(101.0, 40), (130.0, 2)]
    assert list(members[0].spent("alice", 160.9)) == [(101.0, 40), (131.0, 2)]
    assert list(members[0].spent("alice", 161.0)) == [(131.0, 2)]
    members[1].spend("alice", 100.2, -40)
    assert list(members[0].spent("alice", 161.0)) == [(131.0, 2)]


@pytest.mark.parametrize("kind", LOCAL, indirect=True)
async def test_a_member_that_is_gone_has_nothing_in_flight_but_its_minute_counts(
    group: Group, members: list[Coordination]
) -> None:
    """Killing a process is no way around a limit, and takes no slot with it. The next process knows the minute too."""
    members[1].take(Scope.SERVER, "a")
    members[1].take(Scope.USER, "alice")
    members[1].admit("alice", 100.2)
    members[1].waits(90.0)
    members[1].show(Figure.WAITING, 3)
    group.forget(1)
    assert members[0].elsewhere(Scope.SERVER, "a") == members[0].elsewhere(Scope.USER, "alice") == 0
    members[0].waits(95.0)
    assert members[0].waits_longest()
    assert members[0].total(Figure.WAITING) == 0
    assert list(members[0].admissions("alice", 102.0)) == [Admissions(101.0, 1)]
    assert list(group.member(1).own_admissions("alice", 102.0)) == [Admissions(101.0, 1)]
    assert group.last_beat(1) is None


@pytest.mark.parametrize("kind", LOCAL, indirect=True)
async def test_leases_expire_without_a_sign_of_life(group: Group, members: list[Coordination]) -> None:
    """After `LEASE_SECONDS`; a member that was only slow counts again with its next beat."""
    one, slow, _ = members
    for member in members:
        await member.beat(100.0)
    slow.take(Scope.SERVER, "a")
    slow.waits(99.0)
    one.waits(99.5)
    await one.beat(100.0 + LEASE_SECONDS - 0.1)
    assert one.elsewhere(Scope.SERVER, "a") == 1
    assert not one.waits_longest()
    await one.beat(100.0 + LEASE_SECONDS)
    assert one.elsewhere(Scope.SERVER, "a") == 0
    assert one.waits_longest()
    await slow.beat(131.0)
    await one.beat(131.0)
    assert one.elsewhere(Scope.SERVER, "a") == 1
    assert group.last_beat(1) == 131.0


@pytest.mark.parametrize("kind", LOCAL, indirect=True)
async def test_admissions_are_counted_by_the_second_and_forgotten_after_a_minute(members: list[Coordination]) -> None:
    """A second 61 seconds ago is not taken for one of now."""
    asking, counting, _ = members
    for moment in (100.0, 100.9, 101.5):
        counting.admit("alice", moment)
    assert sorted(asking.admissions("alice", 102.0)) == [(101.0, 2), (102.0, 1)]
    assert asking.admissions("bob", 102.0) == []
    assert list(asking.admissions("alice", 161.9)) == [(102.0, 1)]
    counting.admit("alice", 161.0)
    assert sorted(asking.admissions("alice", 161.9)) == [(102.0, 1), (161.9, 1)]


@pytest.mark.parametrize(
    ("since", "longest"),
    [
        ((None, None, None), None),
        ((5.0, None, None), 0),
        ((7.0, 5.0, 6.0), 1),
        ((None, 7.0, 5.0), 2),
        ((60.0, 50.0, 52.0), 1),
    ],
)
async def test_one_request_has_waited_longest(
    members: list[Coordination], exchange: Exchange, since: tuple[float | None, ...], longest: int | None
) -> None:
    """At most one member says so of its own: two that did would wait for each other."""
    for member, moment in zip(members, since, strict=True):
        member.waits(moment)
    await exchange()
    assert [member.waits_longest() for member in members] == [index == longest for index in range(3)]


async def test_of_equals_one_has_waited_longest(members: list[Coordination], exchange: Exchange) -> None:
    """Exactly one."""
    for member in members:
        member.waits(5.0)
    await exchange()
    assert [member.waits_longest() for member in members].count(True) == 1


async def test_a_drain_reaches_all_and_those_that_are_started_later(
    group: Group, members: list[Coordination], exchange: Exchange
) -> None:
    """The last word holds, whoever said it."""
    assert members[2].drained("a") is None
    members[0].drain("a", on=True)
    await exchange()
    assert [member.drained("a") for member in members] == [True] * 3
    members[1].drain("a", on=False)
    await exchange()
    group.forget(1)
    await group.member(1).beat(100.0)
    assert group.member(1).drained("a") is False
    assert members[0].drained("b") is None


async def test_news_reach_each_other_member_once_in_order(members: list[Coordination], exchange: Exchange) -> None:
    """Not the one that told them; nothing is said twice."""
    for news in NEWS:
        members[0].tell(news)
    members[2].tell(FactsChanged("c"))
    await exchange()
    assert _rounded(members[1].news()) == [*NEWS, FactsChanged("c")]
    assert members[1].news() == []
    assert members[0].news() == [FactsChanged("c")]
    assert _rounded(members[2].news()) == NEWS


async def test_of_too_many_news_the_newest_are_kept(members: list[Coordination], exchange: Exchange) -> None:
    """A member that does not listen costs nobody anything."""
    for number in range(20_000):
        members[0].tell(FactsChanged(f"server {number}"))
    await exchange()
    heard = [news.server for news in members[1].news() if isinstance(news, FactsChanged)]
    assert len(heard) >= 500
    assert heard == [f"server {number}" for number in range(20_000 - len(heard), 20_000)]


async def test_who_comes_later_is_told_what_the_others_believed(
    group: Group, members: list[Coordination], exchange: Exchange
) -> None:
    """The last word, in the newcomer's time; before there was one, nothing."""
    assert members[0].remembered() is None
    for until in (1.0, 12.5):
        members[0].remember(Summary(suspended=(Suspension("a", until, 2, refused=True),)))
    await exchange()
    group.forget(1)
    new = group.member(1)
    await new.beat(100.0)
    found = new.remembered()
    assert found is not None
    (suspended,) = found.suspended
    assert msgspec.structs.replace(suspended, until=_to_halves(suspended.until)) == Suspension("a", 12.5, 2, True)


async def test_figures_add_up(members: list[Coordination]) -> None:
    """The asking member's own are among them."""
    for value, member in enumerate(members):
        member.show(Figure.PENDING, value)
    members[0].show(Figure.PENDING, 10)
    assert [member.total(Figure.PENDING) for member in members] == [13] * 3
    assert members[0].total(Figure.DROPPED) == 0


async def test_pages_are_seen_by_the_others_and_by_the_next_process(group: Group, members: list[Coordination]) -> None:
    """The last one of each."""
    assert members[0].pages() == []
    assert members[0].own_page() == b""
    members[0].publish(b"first")
    members[0].publish(b"second")
    members[1].publish(b"other")
    assert sorted(members[2].pages()) == [b"other", b"second"]
    assert members[0].pages() == [b"other"]
    group.forget(0)
    assert group.member(0).own_page() == b"second"


async def test_one_member_is_alone(make_group: MakeGroup) -> None:
    """Nothing is elsewhere, and telling and beating does nothing."""
    member = make_group(1).member(0)
    await member.beat(1.0)
    member.take(Scope.SERVER, "a")
    member.tell(FactsChanged("a"))
    await member.beat(1.0)
    assert member.elsewhere(Scope.SERVER, "a") == 0
    assert member.news() == []
    assert list(member.admissions("alice", 1.0)) == []


def _rounded(news: list[News]) -> list[News]:
    """Moments that crossed machines are exact to a few milliseconds, or tenths of a second on a busy one."""
    return [_rounded_one(one) for one in news]


def _to_halves(moment: float) -> float:
    return round(moment * 2) / 2


def _rounded_one(news: News) -> News:
    match news:
        case BreakerOpened():
            return msgspec.structs.replace(news, until=_to_halves(news.until))
        case TurnsTaken(moments):
            return TurnsTaken({user: _to_halves(moment) for user, moment in moments.items()})
        case ServerPolled(server, found):
            replies = tuple(
                msgspec.structs.replace(one, asked=_to_halves(one.asked), at=_to_halves(one.at))
                for one in found.replies
            )
            return ServerPolled(server, msgspec.structs.replace(found, at=_to_halves(found.at), replies=replies))
        case _:
            return news
