"""Coordination between routers: a member's view of the common store.

Figures and pages stay between the workers of one router, in its local coordination.

    claim, count, give_back, tell --> operations --> exchange --> what the others hold --> replica
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from ollama_router_core.coordination.days import DayBudget, DayUse
from ollama_router_core.coordination.interface import NO_HEADS, Admissions, Charged, Coordination, Scope, Spent
from ollama_router_core.coordination.replica import Replica
from ollama_router_core.fleet.summary import Summary
from ollama_router_server.coordination.redis_exchange import RedisExchange
from ollama_router_server.coordination.redis_questions import RequestCount, SlotClaim, TokenCharge, UseQuery, known_day
from ollama_router_server.coordination.redis_store import RedisStore
from ollama_router_server.system import Clock

__all__ = ["RedisMember"]


class RedisMember:
    """One process's view of all processes of all routers with the same store and fleet.

    Args:
        store: the common store.
        local: the coordination of this router's workers: figures, pages, the worker's index.
        fleet: the name of the group.
        name: this member's unique name.
        secret: 32 bytes shared by all members.
        clock: this process's clock.
        lease: seconds after a member's last sign of life for which its holdings count.

    Attributes:
        group: the name of the fleet.
        secret: the shared secret.
        replica: what this member holds, and what it knows of the others.
        clock: the store's clock, as estimated by this process.
    """

    shares = True
    asks = True

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
        self.index, self.size = local.index, local.size
        self.show, self.total = local.show, local.total
        self.publish, self.pages, self.own_page = local.publish, local.pages, local.own_page
        self.group, self.secret = fleet, secret
        self.replica = Replica(name)
        self._exchange = RedisExchange(store, self.replica, clock, lease=lease)
        self.tell, self.news, self.remember = self._exchange.tell, self._exchange.news, self._exchange.remember
        self.clock = self._exchange.clock

    def __repr__(self) -> str:
        return f"RedisMember({self.replica.name})"

    @property
    def round_trips(self) -> int:
        """The number of exchanges with the store so far."""
        return self._exchange.round_trips

    @property
    def members(self) -> int:
        """Worker processes of all routers, as last reported by the store."""
        return self.replica.members

    @property
    def rank(self) -> int:
        """This member's rank among them, by name."""
        return self.replica.rank

    @property
    def others_wait(self) -> bool:
        """Whether requests wait in other routers."""
        return self.replica.others_wait

    @property
    def away(self) -> bool:
        """Whether the store is unavailable."""
        return self.replica.away

    # --- counts -----------------------------------------------------------------------------------------------------

    def take(self, scope: Scope, name: str) -> None:
        """Count a request, or a reserved slot."""
        self.replica.take(scope, name)
        self._exchange.send("take", scope, name, 1)

    def give_back(self, scope: Scope, name: str, *, again: bool = True) -> None:
        """Release what was taken."""
        if self.replica.give_back(scope, name):
            give = self._exchange.give if again else self._exchange.send
            give("give", scope, name)

    def claim(
        self, scope: Scope, name: str, limit: int, done: Callable[[bool], None], *, arrived: float | None = None
    ) -> None:
        """Take a slot if all members hold fewer than `limit`; without the store, if this one holds less than its share.

        Members whose first queued request arrived before `arrived`, or before this member's first, get a slot first.

        A slot that this member has just released, and not yet reported, is taken again without asking the store.
        """
        same = self.replica.asked(scope, name, limit)
        if same and self._exchange.take_again("give", scope, name):
            self.replica.take(scope, name)
            asyncio.get_running_loop().call_soon(done, same)
            return
        self._exchange.give_before("give", scope, name)
        self._exchange.ask(SlotClaim(self, scope, name, limit, done, arrived))

    async def count(self, user: str, now: float, *, concurrent: int | None, per_minute: int | None) -> bool:
        """Take a slot and count a request of a user, if all members together are below both limits."""
        del now  # the store's clock is used
        if concurrent is not None:
            self.replica.asked(Scope.USER, user, concurrent)
            self._exchange.give_before("give", Scope.USER, user)
        question = RequestCount(self, user, concurrent, per_minute)
        self._exchange.ask(question)
        return await question.taken

    def elsewhere(self, scope: Scope, name: str) -> int:
        """Return the number held by the other members, as of the last exchange."""
        return self.replica.elsewhere(scope, name)

    def all_elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return `elsewhere` for many names, without zeros."""
        return self.replica.all_elsewhere(scope, names)

    def admit(self, user: str, now: float) -> None:
        """Count a request of a user in this second."""
        second = self.clock.second(now)
        self.replica.admitted(user, second)
        self._exchange.keep("admit", user, second, 1)

    def admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return what other members admitted in the last minute, as of this user's last count."""
        return self.replica.admissions(user, now, self.clock.offset)

    def own_admissions(self, user: str, now: float) -> Sequence[Admissions]:
        """Return nothing: to a restarted member, what it counted before is another member's."""
        del user, now
        return ()

    def charge(
        self, user: str, now: float, tokens: int, *, per_minute: int | None, days: DayBudget | None, done: Charged
    ) -> None:
        """Count tokens in this second and day, if all members' usage leaves room.

        Without the store, this member's share of the minute and the known usage of the day have to leave room.
        """
        del now  # the store's clock is used
        self._exchange.ask(TokenCharge(self, user, tokens, per_minute, days, done))

    def spend(self, user: str, now: float, tokens: int) -> None:
        """Count tokens in the second of `now`; negative ones are reverted."""
        second = self.clock.second(now)
        self.replica.spend(user, second, tokens)
        self._exchange.keep("spend", user, second, tokens)

    def spent(self, user: str, now: float) -> Sequence[Spent]:
        """Return what all members counted, as of this user's last charge."""
        return self.replica.spent(user, now, self.clock.offset)

    def use(self, user: str, now: float, day: int, tokens: int, known: DayUse) -> None:
        """Count tokens of a day; without the store, count them once it is available again."""
        self._exchange.keep("use", user, self.clock.second(now), day, tokens, *known_day(known))

    def used(self, user: str, now: float, known: DayUse) -> DayUse:
        """Return the day's usage by all members, as of this user's last charge."""
        return self.replica.days.of(user, now, known)

    async def count_of(self, user: str) -> None:
        """Read what all members have counted of a user; no-op while the store is unavailable."""
        question = UseQuery(self, user)
        self._exchange.ask(question)
        await question.finished

    # --- order ------------------------------------------------------------------------------------------------------

    def waits(self, since: float | None, heads: Mapping[str, float] = NO_HEADS) -> None:
        """Report when the longest waiting request arrived, in total and per server, if that has changed."""
        self._exchange.wait(since, heads)

    def waits_longest(self) -> bool:
        """Return whether that request has waited longest in all routers."""
        return self.replica.waits_longest()

    # --- facts ------------------------------------------------------------------------------------------------------

    def drain(self, server: str, *, on: bool) -> None:
        """Start or end a drain for all members."""
        self.replica.drain(server, on=on)
        self._exchange.keep("drain", server, on)

    def drained(self, server: str) -> bool | None:
        """Return the last known drain of a server."""
        return self.replica.drained(server)

    def remembered(self) -> Summary | None:
        """Return the fleet summary that the store had when this member first joined."""
        return self._exchange.remembered

    # --- the store --------------------------------------------------------------------------------------------------

    async def beat(self, now: float) -> None:
        """Renew the lease and read the others' state; returns at once while the store is unavailable."""
        await self._local.beat(now)
        self.replica.passed(self.clock.now())
        await self._exchange.look()

    def on_change(self, stirred: Callable[[], None]) -> None:
        """Call `stirred` when others have freed a slot or changed a drain."""
        self._exchange.stirred = stirred

    async def leave(self) -> None:
        """Release this member's leases, and close the connections."""
        await self._exchange.leave()
