"""Coordination between routers: what a member sees of a store that all have in common.

Figures and pages stay between the workers of one router, whose coordination it has.

    claim, count, give_back, tell --> operations --> exchange --> what the others hold --> replica
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ollama_router_core.access.limits import first_day_of_month
from ollama_router_core.coordination import (
    NO_HEADS,
    Admissions,
    Charged,
    Coordination,
    DayBudget,
    DayUse,
    Figure,
    News,
    Replica,
    Scope,
    Spent,
    share_of,
)
from ollama_router_core.fleet.summary import Summary
from ollama_router_server.coordination.redis_exchange import Asked, RedisExchange, settle
from ollama_router_server.coordination.redis_store import RedisStore
from ollama_router_server.system import Clock

__all__ = ["RedisMember"]

_UNLIMITED = -1


class RedisMember:
    """One process's view of all processes of all routers with the same store and fleet.

    Args:
        store: where what they share is.
        local: what the workers of this router share: figures, pages, which worker this is.
        fleet: the name of the group.
        name: this member's, unlike any other's.
        secret: 32 bytes that the members have in common.
        clock: of this process.
        lease: seconds after its last sign of life for which what a member holds counts.
    """

    def __init__(
        self,
        store: RedisStore,
        local: Coordination,
        *,
        fleet: str,
        name: str,
        secret: bytes,
        clock: Clock,
        lease: float,
    ) -> None:
        self._store, self._local, self._clock = store, local, clock
        self.group, self.secret = fleet, secret
        self._replica = Replica(name)
        self._exchange = RedisExchange(store, self._replica, clock, lease=lease)

    def __repr__(self) -> str:
        return f"RedisMember({self._replica.name})"

    @property
    def index(self) -> int:
        """Which worker of its router this is."""
        return self._local.index

    @property
    def size(self) -> int:
        """How many workers its router has."""
        return self._local.size

    @property
    def shares(self) -> bool:
        """Whether there may be others."""
        return True

    @property
    def asks(self) -> bool:
        """Others may take what is free here."""
        return True

    @property
    def round_trips(self) -> int:
        """Exchanges with the store so far."""
        return self._exchange.round_trips

    @property
    def members(self) -> int:
        """Worker processes of all routers, when the store last knew them."""
        return self._replica.members

    @property
    def rank(self) -> int:
        """Which of them this is, by name."""
        return self._replica.rank

    @property
    def others_wait(self) -> bool:
        """Whether requests wait in other routers."""
        return self._replica.others_wait

    @property
    def away(self) -> bool:
        """Whether the store does not answer."""
        return self._replica.away

    # --- counts -----------------------------------------------------------------------------------------------------

    def take(self, scope: Scope, name: str) -> None:
        """Count a request, or a reserved slot."""
        self._replica.take(scope, name)
        self._exchange.send("take", scope, name, 1)

    def give_back(self, scope: Scope, name: str, *, again: bool = True) -> None:
        """End what was taken."""
        if self._replica.give_back(scope, name):
            give = self._exchange.give if again else self._exchange.send
            give("give", scope, name)

    def claim(
        self, scope: Scope, name: str, limit: int, done: Callable[[bool], None], *, arrived: float | None = None
    ) -> None:
        """Take, if all members hold fewer than `limit`, or this one less than its share while the store is away.

        Others whose first in the line arrived before `arrived`, or before this one's first, have a slot each before it.

        What this one gave back a moment ago, and has told nobody, is taken again without asking.
        """
        same = self._replica.asked(scope, name, limit)
        if same and self._exchange.take_again("give", scope, name):
            self._replica.take(scope, name)
            asyncio.get_running_loop().call_soon(done, same)
            return
        self._exchange.give_before("give", scope, name)
        first = self._replica.heads.get(name)
        turn = None if arrived is None else self._replica.next_in_line(name, arrived)
        self._replica.claiming += 1

        def answered(result: Any) -> None:
            if self._replica.alone:  # the store does not know what the others hold
                alone()
                return
            self._replica.claiming -= 1
            taken, elsewhere = bool(result[0]), int(result[1])
            if taken:
                self._replica.take(scope, name)
            elif first is not None:
                self._replica.had_no_turn(name, first)
            self._replica.answered(scope, name, elsewhere=elsewhere, full=None if taken else limit)
            done(taken)

        def alone() -> None:
            self._replica.claiming -= 1
            taken = self._replica.may_take_alone(scope, name, limit)
            if taken:
                self.take(scope, name)
            done(taken)

        self._exchange.ask(Asked(("claim", scope, name, limit, *self._exchange.turn(turn)), answered, alone))

    async def count(self, user: str, now: float, *, concurrent: int | None, per_minute: int | None) -> bool:
        """Take and admit a request of a user, if all members together are below both limits."""
        del now  # the store's clock counts
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if concurrent is not None:
            self._replica.asked(Scope.USER, user, concurrent)
            self._exchange.give_before("give", Scope.USER, user)

        def answered(result: Any) -> None:
            if self._replica.alone:
                alone()
                return
            taken, elsewhere, second, rows = result
            if taken:
                self._replica.take(Scope.USER, user)
                self._replica.admitted(user, second)
            self._replica.answered(Scope.USER, user, elsewhere=elsewhere)
            self._replica.admissions_of_all(user, _by_second(rows))
            settle(future, taken, undo=lambda: self.give_back(Scope.USER, user))

        def alone() -> None:
            taken = concurrent is None or self._replica.may_take_alone(Scope.USER, user, concurrent)
            if taken and per_minute is not None:
                own = self._replica.own_admitted(user, int(self._clock.monotonic() + self._exchange.offset))
                taken = own < share_of(per_minute, self._replica.members, self._replica.rank)
            if taken:
                self.take(Scope.USER, user)
                self.admit(user, self._clock.monotonic())
            settle(future, taken, undo=lambda: self.give_back(Scope.USER, user))

        limits = [_UNLIMITED if limit is None else limit for limit in (concurrent, per_minute)]
        self._exchange.ask(Asked(("count", user, *limits, self._replica.acquainted), answered, alone))
        return await future

    def elsewhere(self, scope: Scope, name: str) -> int:
        """Return what the other members hold, as of the last exchange."""
        return self._replica.elsewhere(scope, name)

    def all_elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return the same of many names, without those of which nothing is held."""
        return self._replica.all_elsewhere(scope, names)

    def admit(self, user: str, now: float) -> None:
        """Count a request of a user in this second."""
        second = int(now + self._exchange.offset)
        self._replica.admitted(user, second)
        self._exchange.keep("admit", user, second, 1)

    def admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return what other members admitted in the last minute, as of the last time that this user was counted."""
        return self._replica.admissions(user, now, self._exchange.offset)

    def own_admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return nothing: what this member counted before it was started again is others' to its successor."""
        del user, now
        return ()

    def charge(
        self, user: str, now: float, tokens: int, *, per_minute: int | None, days: DayBudget | None, done: Charged
    ) -> None:
        """Count tokens in this second and day, if all members' leave room.

        While the store is away, the minute's share has to leave room for them, and the day as it is known.
        """
        del now  # the store's clock counts

        def middle_of(second: int) -> float:
            return second + 0.5 - self._exchange.offset  # the same second still when the clocks are compared anew

        def answered(result: Any) -> None:
            if self._replica.alone:
                alone()
                return
            counted, second, rows, used = result
            if per_minute is not None:
                if counted:
                    self._replica.spend(user, second, tokens)
                self._replica.spent_by_all(user, _by_second(rows))
            if days is not None:
                self._replica.days.saw(user, self._clock.monotonic(), DayUse(*used))
            done(middle_of(second) if counted else None)

        def alone() -> None:
            now = self._clock.monotonic()
            second = int(now + self._exchange.offset)
            counted = per_minute is None or self._replica.may_spend_alone(user, second, tokens, per_minute)
            counted = counted and (days is None or days.has_room(days.known))
            if counted and per_minute is not None:
                self.spend(user, now, tokens)
            if counted and days is not None:
                self.use(user, now, days.known.day, tokens, days.known)
            done(middle_of(second) if counted else None)

        limits = [_UNLIMITED if limit is None else limit for limit in (per_minute, *(days or (None, None))[:2])]
        known = () if days is None else _known(days.known)
        self._exchange.ask(Asked(("charge", user, tokens, self._replica.acquainted, *limits, *known), answered, alone))

    def spend(self, user: str, now: float, tokens: int) -> None:
        """Count tokens in the second of `now`, or take them back."""
        second = int(now + self._exchange.offset)
        self._replica.spend(user, second, tokens)
        self._exchange.keep("spend", user, second, tokens)

    def spent(self, user: str, now: float) -> Sequence[Spent]:
        """Return what all members counted, as of the last time that this user was charged."""
        return self._replica.spent(user, now, self._exchange.offset)

    def use(self, user: str, now: float, day: int, tokens: int, known: DayUse) -> None:
        """Count tokens of a day; what is counted while the store is away is told when it is back."""
        self._exchange.keep("use", user, int(now + self._exchange.offset), day, tokens, *_known(known))

    def used(self, user: str, now: float, known: DayUse) -> DayUse:
        """Return what all members counted, as of the last time that this user was charged."""
        return self._replica.days.of(user, now, known)

    async def count_of(self, user: str) -> None:
        """Learn what all members have counted of a user by now; nothing while the store is away."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answered(result: Any) -> None:
            elsewhere, rows, tokens = result
            self._replica.answered(Scope.USER, user, elsewhere=elsewhere)
            self._replica.admissions_of_all(user, _by_second(rows))
            self._replica.spent_by_all(user, _by_second(tokens))
            settle(future, None)

        self._exchange.ask(Asked(("count_of", user), answered, lambda: settle(future, None)))
        await future

    # --- order ------------------------------------------------------------------------------------------------------

    def waits(self, since: float | None, heads: Mapping[str, float] = NO_HEADS) -> None:
        """Tell when the longest waiting request arrived, and that for each server, where that is new."""
        self._exchange.wait(since, heads)

    def waits_longest(self) -> bool:
        """Say whether that request has waited longest in all routers."""
        return self._replica.waits_longest()

    # --- facts ------------------------------------------------------------------------------------------------------

    def drain(self, server: str, *, on: bool) -> None:
        """Begin or end a drain for all members."""
        self._replica.drain(server, on=on)
        self._exchange.keep("drain", server, on)

    def drained(self, server: str) -> bool | None:
        """Return what was last told about a server."""
        return self._replica.drained(server)

    def tell(self, news: News) -> None:
        """Send news to the other members."""
        self._exchange.tell(news)

    def news(self) -> list[News]:
        """Return what the others sent since the last call."""
        return self._exchange.news()

    def remember(self, summary: Summary) -> None:
        """Keep what this member believes of the fleet for routers that come within ten minutes."""
        self._exchange.remember(summary)

    def remembered(self) -> Summary | None:
        """Return what was kept as this member first joined."""
        return self._exchange.remembered

    # --- figures: of this router's workers --------------------------------------------------------------------------

    def show(self, figure: Figure, value: int) -> None:
        """Set this worker's figure."""
        self._local.show(figure, value)

    def total(self, figure: Figure) -> int:
        """Return the sum over this router's workers."""
        return self._local.total(figure)

    def publish(self, page: bytes) -> None:
        """Replace this worker's page."""
        self._local.publish(page)

    def pages(self) -> list[bytes]:
        """Return the pages of this router's other workers."""
        return self._local.pages()

    def own_page(self) -> bytes:
        """Return this worker's page."""
        return self._local.own_page()

    # --- the store --------------------------------------------------------------------------------------------------

    async def beat(self, now: float) -> None:
        """Renew the lease and see what the others do; returns at once while the store is away."""
        await self._local.beat(now)
        self._replica.passed(self._clock.monotonic())
        await self._exchange.look()

    def on_change(self, stirred: Callable[[], None]) -> None:
        """Call `stirred` when others freed a slot or changed a drain."""
        self._exchange.stirred = stirred

    async def leave(self) -> None:
        """End this member's leases, and the connections."""
        await self._exchange.leave()


def _known(use: DayUse) -> tuple[int, int, int, int]:
    """Write what is known of a user's day as the script reads it."""
    return use.day, first_day_of_month(use.day), use.today, use.earlier


def _by_second(rows: Any) -> dict[int, int]:
    """Read what the script counts by seconds; of nothing it makes a list."""
    return {int(second): count for second, count in dict(rows or ()).items()}
