"""Usage limits: what was taken and settled is in the database, also for other processes and after a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ollama_router_core.access.grants import Grants
from ollama_router_core.access.limits import day_of
from ollama_router_core.coordination.in_process import InProcess, InProcessMember
from ollama_router_core.coordination.interface import Charged, Scope, Spent
from ollama_router_core.errors import LimitExceeded
from ollama_router_server.accounts.usage_limits import Ticket, UsageLimits
from ollama_router_server.coordination.alone import alone
from ollama_router_server.storage.activity import Activity, ActivityStore
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.identities import User
from ollama_router_server.storage.router_activity import RouterActivity
from ollama_router_server.storage.token_usage import TokenUsage
from support.eventually import eventually, eventually_async
from support.pauses import stay_silent
from support.storage import FakeClock

pytestmark = pytest.mark.anyio

CLOCK = FakeClock()
TODAY = day_of(CLOCK.wall())


def alice(**grants: int) -> User:
    """A user with limits."""
    return User(id=1, name="alice", role="user", active=True, token_id=1, grants=Grants(**grants))  # type: ignore[arg-type]


async def charged(limits: UsageLimits, user: User, tokens: int) -> Ticket:
    """A request that was admitted, and whose body asks for about so many tokens."""
    ticket = await limits.admit(user)
    await limits.charge(ticket, user, tokens=tokens)
    return ticket


def new_limits(database: Database, router: str = "one") -> UsageLimits:
    """A process's usage limits that are written every 10 ms."""
    clock = FakeClock()
    routers = RouterActivity(ActivityStore(database, router=router, worker=0), clock=clock)
    return UsageLimits(
        TokenUsage(database), workers=alone(), routers=routers, clock=clock, flush_interval=0.01, refresh_interval=0.0
    )


async def refuses(limits: UsageLimits, user: User) -> None:
    """Wait until a process refuses a user."""

    async def is_refused() -> bool:
        return not await admits(limits, user)

    await eventually_async(is_refused)


async def admits(limits: UsageLimits, user: User) -> bool:
    """Whether a process admits a request of a user, which then uses nothing."""
    try:
        limits.settle(await limits.admit(user), 0)
    except LimitExceeded:
        return False
    return True


async def stored(database: Database) -> int:
    """Alice's tokens of today in the database."""
    return (await TokenUsage(database).read(["alice"], first_day=TODAY)).get(("alice", TODAY), 0)


async def becomes(database: Database, tokens: int) -> None:
    """Wait until the database holds so many tokens."""

    async def is_stored() -> bool:
        return await stored(database) == tokens

    await eventually_async(is_stored)


async def test_tokens_are_taken_on_admission_and_settled_by_use(database: Database) -> None:
    """Both reach the database while the request runs and after it."""
    limits = new_limits(database)
    limits.start()
    ticket = await charged(limits, alice(tokens_per_day=1_000), 300)
    await becomes(database, 300)
    limits.settle(ticket, 20)
    await becomes(database, 20)
    await limits.aclose()


async def test_a_restart_loses_nothing(database: Database) -> None:
    """A clean stop writes what is settled; the next process begins with it."""
    first = new_limits(database)
    first.settle(await charged(first, alice(tokens_per_day=100), 10), 100)
    await first.aclose()
    with pytest.raises(LimitExceeded, match="100 tokens per day"):
        await charged(new_limits(database), alice(tokens_per_day=100), 1)


async def test_a_killed_process_leaves_what_it_took(database: Database) -> None:
    """A request under way stays counted as it was taken: a crash is no way around a limit."""
    killed = new_limits(database)
    killed.start()
    await charged(killed, alice(tokens_per_day=100), 100)
    await becomes(database, 100)
    with pytest.raises(LimitExceeded):
        await charged(new_limits(database), alice(tokens_per_day=100), 1)
    await killed.aclose()


async def test_a_process_refuses_what_another_has_counted_before_the_database_tells_it(database: Database) -> None:
    """Of a day and of a month; what the other gives back is there for it at once, too."""
    group = InProcess("router", b"s" * 32, size=2)
    one, other = new_limits(database), new_limits(database)
    for index, limits in enumerate((one, other)):
        limits._workers = group.member(index)
    for user in (alice(tokens_per_day=100), alice(tokens_per_month=100)):
        for limits in (one, other):  # what is known of the database from now on
            limits.settle(await limits.admit(user), 0)
        ticket = await charged(one, user, 100)
        with pytest.raises(LimitExceeded, match="limit of 100 tokens per") as refused:
            await charged(other, user, 1)
        assert refused.value.retry_after > 1.0
        one.settle(ticket, 20)
        other.settle(await charged(other, user, 1), 0)
        one.settle(await charged(one, user, 1), 0)


async def test_processes_see_each_other_s_tokens(database: Database) -> None:
    """Two processes on one database, one limit."""
    user, one, other = alice(tokens_per_day=100), new_limits(database), new_limits(database)
    one.start()
    other.start()
    other.settle(await charged(other, user, 1), 1)
    one.settle(await charged(one, user, 1), 99)
    await eventually(lambda: other.standing(user).tokens.remaining == 0)  # type: ignore[union-attr]
    with pytest.raises(LimitExceeded):
        await charged(other, user, 1)
    await one.aclose()
    await other.aclose()


async def test_requests_of_the_last_minute_survive_a_restart(database: Database) -> None:
    """What one process has admitted counts for the next, as it was when last written."""
    user, before = alice(requests_per_minute=3), new_limits(database, "before")
    for _ in range(3):
        before.settle(await before.admit(user), 0)
    await before.aclose()
    limits = new_limits(database, "after")
    with pytest.raises(LimitExceeded, match="3 requests per minute") as caught:
        await limits.admit(user)
    assert caught.value.retry_after == pytest.approx(60.0, abs=1.0)
    assert limits.standing(user).requests.remaining == 0  # type: ignore[union-attr]
    await limits.aclose()


async def test_processes_see_each_other_s_requests_under_way(database: Database) -> None:
    """Two routers on one database, one limit of requests at once; what ends in one is free in the other."""
    user, one, other = alice(concurrent_requests=1), new_limits(database, "one"), new_limits(database, "other")
    one.start()
    other.start()
    ticket = await one.admit(user)
    await refuses(other, user)
    one.settle(ticket, 0)
    await eventually_async(lambda: admits(other, user))
    await one.aclose()
    await other.aclose()


async def test_what_a_dead_process_had_under_way_is_free_after_a_while(database: Database) -> None:
    """It gives no sign of life any more; its requests of the last minute count on."""
    store = ActivityStore(database, router="dead", worker=0)
    wall = CLOCK.wall()
    await store.publish([Activity(user="alice", in_flight=1, seconds=((int(wall), 1),), seen_at=wall - 6)])
    limits = new_limits(database)
    limits.settle(await limits.admit(alice(concurrent_requests=1, requests_per_minute=2)), 0)
    with pytest.raises(LimitExceeded, match="2 requests per minute"):
        await limits.admit(alice(concurrent_requests=1, requests_per_minute=2))
    await limits.aclose()


async def test_workers_of_one_router_see_each_other_at_once(database: Database) -> None:
    """Without the database; also what a worker that has died admitted in its last minute."""
    clock = FakeClock()
    group = InProcess("router", b"secret", size=2)
    group.member(1).take(Scope.USER, "alice")
    group.member(1).admit("alice", clock.monotonic())
    group.member(0).admit("alice", clock.monotonic())  # by a process before this one
    routers = RouterActivity(ActivityStore(database, router="router", worker=0), clock=clock)
    limits = UsageLimits(TokenUsage(database), workers=group.member(0), routers=routers, clock=clock)
    with pytest.raises(LimitExceeded, match="1 concurrent requests"):
        await limits.admit(alice(concurrent_requests=1))
    with pytest.raises(LimitExceeded, match="2 requests per minute"):
        await limits.admit(alice(requests_per_minute=2))
    ticket = await limits.admit(alice(concurrent_requests=2, requests_per_minute=3))
    assert group.member(1).elsewhere(Scope.USER, "alice") == 1
    limits.settle(ticket, 0)
    assert group.member(1).elsewhere(Scope.USER, "alice") == 0
    await limits.aclose()


async def test_a_locked_database_delays_writing_and_loses_nothing(database: Database, path: Path) -> None:
    """Requests go on meanwhile, against the counts in memory."""
    user, limits = alice(tokens_per_day=100), new_limits(database)
    limits.settle(await charged(limits, user, 1), 1)
    limits.start()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        limits.settle(await charged(limits, user, 1), 60)
        await stay_silent(0.1)
        assert limits.standing(user).tokens.remaining == 39  # type: ignore[union-attr]
    await becomes(database, 61)
    await limits.aclose()


async def test_what_others_used_up_meanwhile_ends_a_request_whose_body_is_being_read(database: Database) -> None:
    """Twenty uploads that began while tokens were left do not all pass; what is refused is not charged."""
    limits = new_limits(database)
    user = alice(tokens_per_day=100)
    first, second = await limits.admit(user), await limits.admit(user)
    await limits.charge(first, user, tokens=100)
    with pytest.raises(LimitExceeded, match="100 tokens per day"):
        await limits.charge(second, user, tokens=1)
    limits.settle(first, 40)
    await limits.charge(second, user, tokens=1)
    assert second.tokens == 1


async def test_a_minute_s_tokens_are_charged_by_estimate_and_settled_by_use(database: Database) -> None:
    """What is left has to hold the estimate; what was not used is free at once, what was used beyond it counts."""
    limits, user = new_limits(database), alice(tokens_per_minute=100)
    first, second = await charged(limits, user, 60), await limits.admit(user)
    with pytest.raises(LimitExceeded, match="100 tokens per minute") as caught:
        await limits.charge(second, user, tokens=41)
    assert 0.0 < caught.value.retry_after <= 61.0
    limits.settle(first, 10)
    await limits.charge(second, user, tokens=41)
    limits.settle(second, 95)
    assert limits.standing(user).tokens.remaining == 0  # type: ignore[union-attr]
    assert not await admits(limits, user)


async def test_who_has_asked_nothing_here_is_shown_what_is_left(database: Database) -> None:
    """Of the minute and of the day, as another router on this database has counted."""
    user, one, other = (
        alice(requests_per_minute=5, tokens_per_day=100),
        new_limits(database),
        new_limits(database, "two"),
    )
    one.settle(await charged(one, user, 1), 60)
    await one.aclose()
    left = await other.allowances_now(user)
    assert {name: one.remaining for name, one in left.items()} == {"requests_per_minute": 4, "tokens_per_day": 40}


async def test_a_request_larger_than_the_limit_has_an_empty_minute_for_itself(database: Database) -> None:
    """It could never be answered otherwise; the next one waits until it is out of the minute."""
    limits, user = new_limits(database), alice(tokens_per_minute=100)
    await charged(limits, user, 5_000)
    assert not await admits(limits, user)


async def test_a_refusal_of_the_minute_charges_no_day(database: Database) -> None:
    """Both limits hold, each for itself."""
    limits, user = new_limits(database), alice(tokens_per_minute=100, tokens_per_day=1_000)
    limits.settle(await charged(limits, user, 90), 90)
    with pytest.raises(LimitExceeded, match="per minute"):
        await charged(limits, user, 50)
    assert limits._meters.known["alice"].tokens[TODAY] == 90


async def test_what_is_counted_for_a_client_that_has_left_is_taken_back(database: Database) -> None:
    """The others' answer may come later than its end."""

    class Slow(InProcessMember):
        """Answers when asked to."""

        def charge(self, user: str, now: float, tokens: int, *, done: Charged, **limits: Any) -> None:
            """Not yet."""
            waiting.append(partial(super().charge, user, now, tokens, done=done, **limits))

    waiting: list[Callable[[], None]] = []
    limits, user = new_limits(database), alice(tokens_per_minute=100)
    limits._workers = Slow(InProcess("router", b"s" * 32), 0, 1)
    limits._workers._all.members[0] = limits._workers
    ticket = await limits.admit(user)
    asked = limits.charge(ticket, user, tokens=60)
    assert not asked.done()
    asked.cancel()
    limits.settle(ticket, 0)
    waiting.pop()()
    assert limits.standing(user).tokens.remaining == 100  # type: ignore[union-attr]


async def test_nobody_is_refused_by_what_others_have_given_back_since(database: Database) -> None:
    """Where others have to be asked, they are before a request is refused by what was known of them."""

    class Remote(InProcessMember):
        """Knows what it has asked for."""

        asks = True

        def spent(self, user: str, now: float) -> list[Spent]:
            """All of the limit, until it has asked."""
            return [Spent(now, left.get(user, 100))]

        async def count_of(self, user: str) -> None:
            """They took something back."""
            left[user] = in_truth

    left: dict[str, int] = {}
    limits, user = new_limits(database), alice(tokens_per_minute=100)
    limits._workers = Remote(InProcess("router", b"s" * 32), 0, 1)
    limits._workers._all.members[0] = limits._workers
    in_truth = 100
    assert not await admits(limits, user)
    left.clear()
    in_truth = 20
    limits._clock.advance(0.3)  # type: ignore[attr-defined]
    assert await admits(limits, user)
    left.clear()
    assert limits.admit_at_once(user) is None


async def test_who_keeps_on_trying_costs_one_question_in_a_quarter_of_a_second(database: Database) -> None:
    """What all members said holds for so long, for a user to whom they left nothing."""

    class Remote(InProcessMember):
        """Others have used up the limit."""

        asks = True

        def spent(self, user: str, now: float) -> list[Spent]:
            """All of it."""
            return [Spent(now, 100)]

        async def count_of(self, user: str) -> None:
            """Note that it was asked."""
            questions.append(user)

    questions: list[str] = []
    limits, user = new_limits(database), alice(tokens_per_minute=100)
    limits._workers = Remote(InProcess("router", b"s" * 32), 0, 1)
    for asked in (1, 1, 2):
        limits._clock.advance(0.15)  # type: ignore[attr-defined]
        assert not await admits(limits, user)
        assert questions == ["alice"] * asked


async def test_what_the_database_never_takes_holds_nobody_back(database: Database) -> None:
    """One user's impossible number is given up with a line in the log; the others' counts are written, and it ends."""
    limits = new_limits(database)
    mallory = replace(alice(tokens_per_day=2**70), name="mallory")
    limits.settle(await charged(limits, mallory, 1), 2**63)
    limits.settle(await charged(limits, alice(tokens_per_day=100), 1), 60)
    limits.start()
    await becomes(database, 60)
    limits.settle(await charged(limits, mallory, 1), 2**63)
    limits.settle(await charged(limits, alice(tokens_per_day=100), 1), 7)
    await limits.aclose()
    assert await stored(database) == 67
