"""Questions of a member to the store, and their local decision while the store is unavailable or incomplete."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from ollama_router_core.access.limits import first_day_of_month
from ollama_router_core.coordination.days import DayBudget, DayUse
from ollama_router_core.coordination.interface import Charged, Coordination, Scope
from ollama_router_core.coordination.replica import Replica
from ollama_router_core.coordination.shared_limits import share_of
from ollama_router_server.coordination.exchange_batch import Question, settle
from ollama_router_server.coordination.store_clock import StoreClock

__all__ = ["Asker", "RequestCount", "SlotClaim", "TokenCharge", "UseQuery", "known_day"]

_UNLIMITED: Final = -1


class Asker(Coordination, Protocol):
    """The member that asks.

    Attributes:
        replica: what it holds, and what it knows of the others.
        clock: the store's clock.
    """

    replica: Replica
    clock: StoreClock


class SlotClaim(Question):
    """A claim of one of `limit` slots; `done` is called with whether it was taken."""

    def __init__(
        self, member: Asker, scope: Scope, name: str, limit: int, done: Callable[[bool], None], arrived: float | None
    ) -> None:
        self._member = member
        self._scope, self._name, self._limit, self._done = scope, name, limit, done
        self._first = member.replica.heads.get(name)
        turn = () if arrived is None else (member.clock.milliseconds(member.replica.next_in_line(name, arrived)),)
        self.operation = ("claim", scope, name, limit, *turn)
        member.replica.claiming += 1

    def answered(self, result: Any) -> None:
        """Take the slot, or note that all are taken."""
        replica = self._member.replica
        if replica.alone:  # the store does not know the other members' state
            self.alone()
            return
        replica.claiming -= 1
        taken, elsewhere = bool(result[0]), int(result[1])
        if taken:
            replica.take(self._scope, self._name)
        elif self._first is not None:
            replica.had_no_turn(self._name, self._first)
        replica.answered(self._scope, self._name, elsewhere=elsewhere, full=None if taken else self._limit)
        self._done(taken)

    def alone(self) -> None:
        """Take the slot if this member holds less than its share."""
        replica = self._member.replica
        replica.claiming -= 1
        taken = replica.may_take_alone(self._scope, self._name, self._limit)
        if taken:
            self._member.take(self._scope, self._name)
        self._done(taken)


class RequestCount(Question):
    """A request of a user with limits; `taken` resolves to whether it is within both."""

    def __init__(self, member: Asker, user: str, concurrent: int | None, per_minute: int | None) -> None:
        self._member, self._user = member, user
        self._concurrent, self._per_minute = concurrent, per_minute
        self.taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.operation = ("count", user, _limit(concurrent), _limit(per_minute), member.replica.acquainted)

    def answered(self, result: Any) -> None:
        """Count the request if the store counted it."""
        replica, user = self._member.replica, self._user
        if replica.alone:
            self.alone()
            return
        taken, elsewhere, second, rows = result
        if taken:
            replica.take(Scope.USER, user)
            replica.admitted(user, second)
        replica.answered(Scope.USER, user, elsewhere=elsewhere)
        replica.admissions_of_all(user, _by_second(rows))
        self._settle(taken)

    def alone(self) -> None:
        """Count the request if it is within this member's share of both limits."""
        replica, user, now = self._member.replica, self._user, self._member.clock.now()
        taken = self._concurrent is None or replica.may_take_alone(Scope.USER, user, self._concurrent)
        if taken and self._per_minute is not None:
            own = replica.own_admitted(user, self._member.clock.second(now))
            taken = own < share_of(self._per_minute, replica.members, replica.rank)
        if taken:
            self._member.take(Scope.USER, user)
            self._member.admit(user, now)
        self._settle(taken)

    def _settle(self, taken: bool) -> None:  # noqa: FBT001 - an answer
        settle(self.taken, taken, undo=lambda: self._member.give_back(Scope.USER, self._user))


class TokenCharge(Question):
    """Tokens of a user with limits; `done` is called with the time when they were counted, or None if they were not."""

    def __init__(
        self, member: Asker, user: str, tokens: int, per_minute: int | None, days: DayBudget | None, done: Charged
    ) -> None:
        self._member, self._user, self._tokens = member, user, tokens
        self._per_minute, self._days, self._done = per_minute, days, done
        limits = map(_limit, (per_minute, *(days or (None, None))[:2]))
        known = () if days is None else known_day(days.known)
        self.operation = ("charge", user, tokens, member.replica.acquainted, *limits, *known)

    def answered(self, result: Any) -> None:
        """Count the tokens if the store counted them."""
        replica, user = self._member.replica, self._user
        if replica.alone:
            self.alone()
            return
        counted, second, rows, used = result
        if self._per_minute is not None:
            if counted:
                replica.spend(user, second, self._tokens)
            replica.spent_by_all(user, _by_second(rows))
        if self._days is not None:
            replica.days.saw(user, self._member.clock.now(), DayUse(*used))
        self._done(self._member.clock.middle_of(second) if counted else None)

    def alone(self) -> None:
        """Count the tokens if they fit into this member's share of the minute, and into the known usage of the day."""
        member, user, days = self._member, self._user, self._days
        now = member.clock.now()
        second = member.clock.second(now)
        if not self._has_room_alone(second):
            self._done(None)
            return
        if self._per_minute is not None:
            member.spend(user, now, self._tokens)
        if days is not None:
            member.use(user, now, days.known.day, self._tokens, days.known)
        self._done(member.clock.middle_of(second))

    def _has_room_alone(self, second: int) -> bool:
        limit, days = self._per_minute, self._days
        fits = limit is None or self._member.replica.may_spend_alone(self._user, second, self._tokens, limit)
        return fits and (days is None or days.has_room(days.known))


class UseQuery(Question):
    """A query of what all members have counted of a user; `finished` resolves with the answer, or without one."""

    def __init__(self, member: Asker, user: str) -> None:
        self._replica, self._user = member.replica, user
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.operation = ("count_of", user)

    def answered(self, result: Any) -> None:
        """Apply the store's counts."""
        elsewhere, rows, tokens = result
        self._replica.answered(Scope.USER, self._user, elsewhere=elsewhere)
        self._replica.admissions_of_all(self._user, _by_second(rows))
        self._replica.spent_by_all(self._user, _by_second(tokens))
        settle(self.finished, None)

    def alone(self) -> None:
        """Keep what is known."""
        settle(self.finished, None)


def known_day(use: DayUse) -> tuple[int, int, int, int]:
    """Return what is known of a user's day in the script's format: day, first day of month, today, earlier."""
    return use.day, first_day_of_month(use.day), use.today, use.earlier


def _limit(limit: int | None) -> int:
    return _UNLIMITED if limit is None else limit


def _by_second(rows: Any) -> dict[int, int]:
    """Parse the script's counts by second; an empty table arrives as a list."""
    return {int(second): count for second, count in dict(rows or ()).items()}
