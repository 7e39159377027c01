"""The use of users' limits: counted in memory, stored in the database, shared by all processes.

Tokens are charged once a request's body is known and settled when it has ended; both are written within
`flush_interval`, so a killed process leaves requests in flight counted at their estimates. All limited quantities are
counted jointly with the other workers of this router and with routers that share a store. Through the database alone,
other routers see requests within `flush_interval`, tokens of a day within `refresh_interval`, and those of a minute
never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from msgspec import Struct

from ollama_router_core.access.limits import (
    NOWHERE,
    Allowance,
    Elsewhere,
    LimitName,
    Meter,
    Standing,
    allowances,
    check_days,
    check_minute,
    day_of,
    has_limits,
    standing_of,
)
from ollama_router_core.coordination.days import DayBudget, DayUse
from ollama_router_core.coordination.interface import Coordination, Scope, Spent
from ollama_router_core.coordination.shared_limits import shared_grants
from ollama_router_core.errors import LimitExceeded, StorageUnavailable
from ollama_router_core.exchange.events import Caller
from ollama_router_server.accounts.usage_meters import OLD, UsageMeters, counts_requests, has_token_limit
from ollama_router_server.storage.identities import User
from ollama_router_server.storage.router_activity import RouterActivity
from ollama_router_server.storage.token_usage import TokenUsage
from ollama_router_server.system import Clock

__all__ = ["Ticket", "UsageLimits"]

_REFUSAL_SECONDS = 0.25  # seconds for which a refusal by all members is reused for a user


class Ticket(Struct, kw_only=True, eq=False):
    """One admitted request: its user, the tokens charged, whether other processes were informed.

    `tokens` are charged to the day, `in_minute` to the minute, at `charged_at`.
    """

    user: str
    day: int
    shared: bool
    tokens: int = 0
    in_minute: int = 0
    charged_at: float = 0.0
    ended: bool = False


class UsageLimits:
    """The meters of this process. Not thread-safe: runs on one event loop.

    Args:
        usage: the store of token counts.
        workers: the other workers of this router.
        routers: other routers on the same database.
        clock: for minutes and days.
        flush_interval: seconds; the usage that a killed process can lose.
        refresh_interval: seconds between reads of other processes' counts.
    """

    def __init__(
        self,
        usage: TokenUsage,
        *,
        workers: Coordination,
        routers: RouterActivity,
        clock: Clock,
        flush_interval: float = 0.2,
        refresh_interval: float = 1.0,
    ) -> None:
        self._workers = workers
        self._routers = routers
        self._clock = clock
        self._meters = UsageMeters(
            usage,
            workers=workers,
            routers=routers,
            clock=clock,
            flush_interval=flush_interval,
            refresh_interval=refresh_interval,
        )
        self._tokens = self._meters.tokens
        self._refused: dict[str, float] = {}  # user to the time of the last refusal by all members

    def start(self) -> None:
        """Start writing; call it on a running event loop."""
        self._meters.start()

    async def aclose(self) -> None:
        """Write pending counts."""
        await self._meters.aclose()

    async def admit(self, user: User) -> Ticket:
        """Count a request that starts; `charge` its estimated tokens once known, and end it with `settle`.

        Raises:
            LimitExceeded: a limit is used up.
            StorageUnavailable: earlier use is unknown and cannot be read.
        """
        await self._check_minute_of_all(user)
        meter = await self._meters.of(user)
        if counts_requests(user.grants) and self._workers.asks:
            return await self._admitted_by_all(meter, user)
        return self._admitted(meter, user)

    def admit_at_once(self, user: User) -> Ticket | None:
        """Admit a request without waiting; return None if the user's usage has to be read first.

        Raises:
            LimitExceeded: a limit is used up.
        """
        meter = self._meters.known.get(user.name)
        if meter is None or (counts_requests(user.grants) and (self._workers.asks or self._routers.age > OLD)):
            return None
        if has_token_limit(user.grants):
            if user.name not in self._tokens:
                return None
            self._tokens.touch(user.name)
        try:
            self._check_minute(user, tokens=1)
        except LimitExceeded:
            if self._should_ask_members(user):
                return None
            raise
        return self._admitted(meter, user)

    def _should_ask_members(self, user: User) -> bool:
        """Return whether other members may have freed tokens unknown here; bounds the cost of repeated attempts."""
        asked = self._refused.get(user.name, float("-inf"))
        return self._workers.asks and not self._workers.away and self._clock.monotonic() - asked >= _REFUSAL_SECONDS

    async def _check_minute_of_all(self, user: User) -> None:
        """Check the minute's tokens by fresh counts of all members.

        Raises:
            LimitExceeded: no tokens are left in this minute.
        """
        try:
            self._check_minute(user, tokens=1)
        except LimitExceeded:
            if not self._should_ask_members(user):
                raise
            await self._workers.count_of(user.name)
            self._refused[user.name] = self._clock.monotonic()
            self._check_minute(user, tokens=1)
            del self._refused[user.name]

    def _check_minute(self, user: User, *, tokens: int) -> None:
        """Check the minute's tokens by the known counts.

        Raises:
            LimitExceeded: fewer than `tokens` are left in this minute.
        """
        if user.grants.tokens_per_minute is not None:
            grants, now = user.grants, self._clock.monotonic()
            if self._workers.away:
                grants = shared_grants(grants, self._workers.members, self._workers.rank)
            check_minute(grants.tokens_per_minute, self._workers.spent(user.name, now), now=now, tokens=tokens)

    def _admitted(self, meter: Meter, user: User) -> Ticket:
        now, wall = self._clock.monotonic(), self._clock.wall()
        self._meters.last_used = now
        if counts_requests(user.grants):
            meter.admit(user.grants, now=now, wall=wall, elsewhere=self._elsewhere(user.name, now))
            self._workers.take(Scope.USER, user.name)
            self._workers.admit(user.name, now)
            self._routers.changed(user.name)
        else:
            meter.admit(user.grants, now=now, wall=wall)
        return Ticket(user=user.name, day=day_of(wall), shared=counts_requests(user.grants))

    async def _admitted_by_all(self, meter: Meter, user: User) -> Ticket:
        """Count a request jointly with other routers, or against this one's share if they cannot be reached."""
        grants = user.grants
        limits = {"concurrent": grants.concurrent_requests, "per_minute": grants.requests_per_minute}
        taken = await self._workers.count(user.name, self._clock.monotonic(), **limits)
        now, wall = self._clock.monotonic(), self._clock.wall()
        elsewhere = self._elsewhere(user.name, now)
        if self._workers.away:
            grants, elsewhere = shared_grants(grants, self._workers.members, self._workers.rank), NOWHERE
        try:
            meter.admit(grants, now=now, wall=wall, elsewhere=elsewhere)
        except LimitExceeded:
            if taken:
                self._workers.give_back(Scope.USER, user.name)
            raise
        if not taken:
            meter.release()
            raise LimitExceeded("requests at other routers have reached a limit of this user", retry_after=1.0)
        return Ticket(user=user.name, day=day_of(wall), shared=True)

    def charge(self, ticket: Ticket, user: User, *, tokens: int) -> asyncio.Future[None]:
        """Charge tokens to an admitted request; the result is available at once unless other members have to confirm.

        Raises:
            LimitExceeded: too few tokens are left; nothing is charged. The future may raise it.
        """
        charged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if has_token_limit(user.grants):
            self._meters.known[user.name].check_tokens(user.grants, wall=self._clock.wall())
            ticket.day = day_of(self._clock.wall())
        per_minute, days = user.grants.tokens_per_minute, self._budget(user)
        if per_minute is None and days is None:
            self._charge_day(ticket, user, tokens)
            charged.set_result(None)
            return charged
        done = partial(self._charged, ticket, user, tokens, charged)
        now = self._clock.monotonic()
        self._workers.charge(user.name, now, tokens, per_minute=per_minute, days=days, done=done)
        return charged

    def _charged(
        self, ticket: Ticket, user: User, tokens: int, charged: asyncio.Future[None], at: float | None
    ) -> None:
        """Apply the decision of all members: `at` is when the tokens were counted, None if they were not."""
        if at is None:
            _end(charged, self._too_many(user, tokens))
            return
        if user.grants.tokens_per_minute is not None:
            ticket.in_minute = tokens
        ticket.charged_at = at
        self._charge_day(ticket, user, tokens)
        if ticket.ended:  # the client disconnected meanwhile
            self._replace(ticket, 0)
        _end(charged, None)

    def _budget(self, user: Caller) -> DayBudget | None:
        """Return the day budget counted jointly; None without such a limit, or without other members."""
        if not self._workers.shares or not has_token_limit(user.grants):
            return None
        return DayBudget(user.grants.tokens_per_day, user.grants.tokens_per_month, self._known(user.name))

    def _known(self, user: str) -> DayUse:
        return DayUse.of(self._meters.known[user].tokens, day_of(self._clock.wall()))

    def _charge_day(self, ticket: Ticket, user: User, tokens: int) -> None:
        if has_token_limit(user.grants):
            ticket.tokens += tokens
            self._tokens.take(ticket.user, ticket.day, tokens)

    def _too_many(self, user: User, tokens: int) -> LimitExceeded:
        try:
            self._check_minute(user, tokens=tokens)
            if (days := self._budget(user)) is not None:
                used = self._workers.used(user.name, self._clock.monotonic(), days.known)
                check_days(used.by_day, user.grants, wall=self._clock.wall())
        except LimitExceeded as error:
            return error
        return LimitExceeded("this user's token limit was just reached", retry_after=1.0)

    def settle(self, ticket: Ticket, tokens: int) -> None:
        """End a request: replace its estimated tokens by the tokens used."""
        self._meters.known[ticket.user].release()
        if ticket.shared:
            self._workers.give_back(Scope.USER, ticket.user)
            self._routers.changed(ticket.user)
        ticket.ended = True
        self._replace(ticket, tokens)

    def _replace(self, ticket: Ticket, tokens: int) -> None:
        """Replace the charged tokens by `tokens`."""
        if ticket.tokens and (change := tokens - ticket.tokens):
            if self._workers.shares:
                now, known = self._clock.monotonic(), self._known(ticket.user)
                self._workers.use(ticket.user, now, ticket.day, change, known)
            self._tokens.take(ticket.user, ticket.day, change)
        if ticket.in_minute and (change := tokens - ticket.in_minute):
            # An overestimate is subtracted from the second it was counted in; an excess counts now.
            at = ticket.charged_at if change < 0 else self._clock.monotonic()
            self._workers.spend(ticket.user, at, change)

    async def allowances_now(self, user: User) -> dict[LimitName, Allowance]:
        """Return what is left of each limit of a user, including one without requests here yet."""
        if has_limits(user.grants):
            self._meters.last_used = self._clock.monotonic()
            with suppress(StorageUnavailable):  # then use the known counts
                await self._meters.of(user)
            await self._workers.count_of(user.name)
        now, spent = self._clock.monotonic(), self._spent(user)
        elsewhere, meter = self._elsewhere(user.name, now), self._meters.known.get(user.name) or Meter()
        return allowances(meter, user.grants, now=now, wall=self._clock.wall(), elsewhere=elsewhere, spent=spent)

    def _spent(self, user: Caller) -> Sequence[Spent]:
        if user.grants.tokens_per_minute is None:
            return ()
        return self._workers.spent(user.name, self._clock.monotonic())

    def standing(self, user: Caller) -> Standing:
        """Return what is left of a user's limits, for header fields."""
        meter = self._meters.known.get(user.name) or Meter()
        now = self._clock.monotonic()
        elsewhere = self._elsewhere(user.name, now)
        spent, wall = self._spent(user), self._clock.wall()
        return standing_of(meter, user.grants, now=now, wall=wall, elsewhere=elsewhere, spent=spent)

    def _elsewhere(self, user: str, now: float) -> Elsewhere:
        """Return what other processes have admitted for a user, as known here."""
        remote = NOWHERE if self._workers.asks else self._routers.elsewhere(user, now)
        if not self._workers.shares:
            return remote
        return Elsewhere(
            in_flight=remote.in_flight + self._workers.elsewhere(Scope.USER, user),
            requests=(*remote.requests, *self._workers.admissions(user, now)),
        )


def _end(charged: asyncio.Future[None], error: LimitExceeded | None) -> None:
    """Resolve the future, if its caller still waits."""
    if charged.done():
        return
    if error is None:
        charged.set_result(None)
    else:
        charged.set_exception(error)
        charged.exception()  # its caller may have left: mark the exception as retrieved
