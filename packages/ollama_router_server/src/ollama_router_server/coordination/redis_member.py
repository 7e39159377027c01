"""Coordination between routers: what a member sees of a store that all have in common.

Figures and pages stay between the workers of one router, whose coordination it has.

    claim, count, give_back, tell --> operations --> exchange --> what the others hold --> replica
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

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
)
from ollama_router_core.fleet.summary import Summary
from ollama_router_server.coordination.redis_exchange import RedisExchange
from ollama_router_server.coordination.redis_questions import (
    RequestCount,
    SlotClaim,
    TokenCharge,
    UseQuery,
    known_day,
)
from ollama_router_server.coordination.redis_store import RedisStore
from ollama_router_server.system import Clock

__all__ = ["RedisMember"]


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

    Attributes:
        group: the fleet.
        secret: as given.
        replica: what this member holds, and knows of the others.
        clock: the store's, as this process knows it.
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
        self._local = local
        self.group, self.secret = fleet, secret
        self.replica = Replica(name)
        self._exchange = RedisExchange(store, self.replica, clock, lease=lease)
        self.clock = self._exchange.clock

    def __repr__(self) -> str:
        return f"RedisMember({self.replica.name})"

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
        return self.replica.members

    @property
    def rank(self) -> int:
        """Which of them this is, by name."""
        return self.replica.rank

    @property
    def others_wait(self) -> bool:
        """Whether requests wait in other routers."""
        return self.replica.others_wait

    @property
    def away(self) -> bool:
        """Whether the store does not answer."""
        return self.replica.away

    # --- counts -----------------------------------------------------------------------------------------------------

    def take(self, scope: Scope, name: str) -> None:
        """Count a request, or a reserved slot."""
        self.replica.take(scope, name)
        self._exchange.send("take", scope, name, 1)

    def give_back(self, scope: Scope, name: str, *, again: bool = True) -> None:
        """End what was taken."""
        if self.replica.give_back(scope, name):
            give = self._exchange.give if again else self._exchange.send
            give("give", scope, name)

    def claim(
        self, scope: Scope, name: str, limit: int, done: Callable[[bool], None], *, arrived: float | None = None
    ) -> None:
        """Take, if all members hold fewer than `limit`, or this one less than its share while the store is away.

        Others whose first in the line arrived before `arrived`, or before this one's first, have a slot each before it.

        What this one gave back a moment ago, and has told nobody, is taken again without asking.
        """
        same = self.replica.asked(scope, name, limit)
        if same and self._exchange.take_again("give", scope, name):
            self.replica.take(scope, name)
            asyncio.get_running_loop().call_soon(done, same)
            return
        self._exchange.give_before("give", scope, name)
        self._exchange.ask(SlotClaim(self, scope, name, limit, done, arrived))

    async def count(self, user: str, now: float, *, concurrent: int | None, per_minute: int | None) -> bool:
        """Take and admit a request of a user, if all members together are below both limits."""
        del now  # the store's clock counts
        if concurrent is not None:
            self.replica.asked(Scope.USER, user, concurrent)
            self._exchange.give_before("give", Scope.USER, user)
        question = RequestCount(self, user, concurrent, per_minute)
        self._exchange.ask(question)
        return await question.taken

    def elsewhere(self, scope: Scope, name: str) -> int:
        """Return what the other members hold, as of the last exchange."""
        return self.replica.elsewhere(scope, name)

    def all_elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return the same of many names, without those of which nothing is held."""
        return self.replica.all_elsewhere(scope, names)

    def admit(self, user: str, now: float) -> None:
        """Count a request of a user in this second."""
        second = self.clock.second(now)
        self.replica.admitted(user, second)
        self._exchange.keep("admit", user, second, 1)

    def admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return what other members admitted in the last minute, as of the last time that this user was counted."""
        return self.replica.admissions(user, now, self.clock.offset)

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
        self._exchange.ask(TokenCharge(self, user, tokens, per_minute, days, done))

    def spend(self, user: str, now: float, tokens: int) -> None:
        """Count tokens in the second of `now`, or take them back."""
        second = self.clock.second(now)
        self.replica.spend(user, second, tokens)
        self._exchange.keep("spend", user, second, tokens)

    def spent(self, user: str, now: float) -> Sequence[Spent]:
        """Return what all members counted, as of the last time that this user was charged."""
        return self.replica.spent(user, now, self.clock.offset)

    def use(self, user: str, now: float, day: int, tokens: int, known: DayUse) -> None:
        """Count tokens of a day; what is counted while the store is away is told when it is back."""
        self._exchange.keep("use", user, self.clock.second(now), day, tokens, *known_day(known))

    def used(self, user: str, now: float, known: DayUse) -> DayUse:
        """Return what all members counted, as of the last time that this user was charged."""
        return self.replica.days.of(user, now, known)

    async def count_of(self, user: str) -> None:
        """Learn what all members have counted of a user by now; nothing while the store is away."""
        question = UseQuery(self, user)
        self._exchange.ask(question)
        await question.told

    # --- order ------------------------------------------------------------------------------------------------------

    def waits(self, since: float | None, heads: Mapping[str, float] = NO_HEADS) -> None:
        """Tell when the longest waiting request arrived, and that for each server, where that is new."""
        self._exchange.wait(since, heads)

    def waits_longest(self) -> bool:
        """Say whether that request has waited longest in all routers."""
        return self.replica.waits_longest()

    # --- facts ------------------------------------------------------------------------------------------------------

    def drain(self, server: str, *, on: bool) -> None:
        """Begin or end a drain for all members."""
        self.replica.drain(server, on=on)
        self._exchange.keep("drain", server, on)

    def drained(self, server: str) -> bool | None:
        """Return what was last told about a server."""
        return self.replica.drained(server)

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
        self.replica.passed(self.clock.now())
        await self._exchange.look()

    def on_change(self, stirred: Callable[[], None]) -> None:
        """Call `stirred` when others freed a slot or changed a drain."""
        self._exchange.stirred = stirred

    async def leave(self) -> None:
        """End this member's leases, and the connections."""
        await self._exchange.leave()
