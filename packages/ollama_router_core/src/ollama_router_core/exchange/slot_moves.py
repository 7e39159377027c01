"""Slots whose requests go on to another server, where other routers have to be asked for one there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from msgspec import Struct

from ollama_router_core.errors import NoServerFits
from ollama_router_core.exchange.events import Refused
from ollama_router_core.exchange.server_slot import ServerSlot, SlotClaims, SlotFleet, Waiter

__all__ = ["SlotMoves"]

_LONGEST_MOVE = 10.0
"""Seconds that a request which a server could not take waits for a slot of the next; as long as connecting may take."""


class _Moved(Protocol):
    """Count a slot on another server; `begun` where the fleet counts its request there already."""

    def __call__(self, slot: ServerSlot, server: str, *, begun: bool = False) -> None: ...


class _Move(Struct, eq=False):
    """A slot that is to go to another server, by a claim of its own; `asked` while that is not answered."""

    slot: ServerSlot
    server: str
    until: float
    asked: bool = False


class SlotMoves:
    """The moves that wait.

    Args:
        claims: where slots are asked for.
        fleet: what is in flight.
        now: seconds of the fleet's clock.
        limit: slots of a server.
        moved: told of each slot that has moved.
    """

    def __init__(
        self,
        claims: SlotClaims | None,
        fleet: SlotFleet,
        now: Callable[[], float],
        *,
        limit: Callable[[str], int | None],
        moved: _Moved,
    ) -> None:
        self._claims = claims
        self._fleet = fleet
        self._now = now
        self._limit = limit
        self._moved = moved
        self._waiting: dict[Waiter, _Move] = {}

    def __bool__(self) -> bool:
        """Whether one waits."""
        return bool(self._waiting)

    def begin(self, slot: ServerSlot, server: str, wake: Callable[[], None]) -> Waiter:
        """Move a slot to a server as soon as one there is granted; who waits for that is woken."""
        waiter = Waiter(slot.number, wake, None)
        self._waiting[waiter] = _Move(slot, server, self._now() + _LONGEST_MOVE)
        self.ask()
        return waiter

    def leave(self, waiter: Waiter) -> bool:
        """Give a move up; False if it is none."""
        return self._waiting.pop(waiter, None) is not None

    def ask(self) -> None:
        """Claim the slots of moves that nobody has been asked for, or that were denied so far."""
        for waiter, move in tuple(self._waiting.items()):
            limit = self._limit(move.server)
            if self._claims is not None and limit is not None and not move.asked:
                move.asked = True
                model = move.slot.decision.request.model
                self._claims.claim(move.server, model, limit, partial(self._answered, waiter, move))

    def _answered(self, waiter: Waiter, move: _Move, granted: bool) -> None:  # noqa: FBT001 - an answer
        move.asked = False
        if waiter not in self._waiting:
            if granted:
                self._fleet.end(move.server, move.slot.decision.request.model)
            return
        if granted:
            self._moved(move.slot, move.server, begun=True)
        elif self._now() < move.until:
            return
        del self._waiting[waiter]
        full = NoServerFits(f"{move.server} has no slot free", retry_after=5)
        waiter.outcome = move.slot if granted else Refused(full)
        waiter.wake()
