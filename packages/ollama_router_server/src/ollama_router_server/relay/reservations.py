"""A request that is counted against its user's limits until it is settled."""

from __future__ import annotations

import asyncio

from ollama_router_server.accounts.usage_limits import Ticket, UsageLimits
from ollama_router_server.storage.identities import User

__all__ = ["Reservation", "give_back", "reserve"]


class Reservation:
    """One counted request; implements `exchange.events.Reservation`."""

    __slots__ = ("_charged", "_limits", "_ticket", "_user")

    def __init__(self, limits: UsageLimits, user: User, ticket: Ticket) -> None:
        self._limits = limits
        self._user = user
        self._ticket = ticket
        self._charged: asyncio.Future[None] | None = None

    def charge(self, tokens: int) -> bool:
        """Charge tokens in advance; return False while other routers have to confirm (see `charged`).

        Raises:
            LimitExceeded: fewer tokens are left.
        """
        charged = self._limits.charge(self._ticket, self._user, tokens=tokens)
        if not charged.done():
            self._charged = charged
            return False
        charged.result()
        return True

    def charged(self) -> asyncio.Future[None]:
        """Return a future of the confirmation by other routers; it raises what `charge` raises."""
        if self._charged is None:
            raise AssertionError("nothing is being charged")
        return self._charged

    def settle(self, tokens: int) -> None:
        """Settle a request that has ended with the number of tokens it used."""
        self._limits.settle(self._ticket, tokens)


async def reserve(limits: UsageLimits, user: User) -> Reservation:
    """Count a request after reading the user's usage from storage.

    Raises:
        LimitExceeded: a limit is used up.
        StorageUnavailable: the usage cannot be read.
    """
    return Reservation(limits, user, await limits.admit(user))


def give_back(task: asyncio.Task[Reservation]) -> None:
    """Undo a `reserve` task: cancel it, or settle with 0 tokens what it has counted."""
    if not task.cancel() and not task.cancelled() and task.exception() is None:
        task.result().settle(0)
