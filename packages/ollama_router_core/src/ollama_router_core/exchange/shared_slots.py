"""Slots shared with other routers: every use is claimed first, also when a request moves to the next server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import NoServerFits
from ollama_router_core.exchange.events import Refused
from ollama_router_core.exchange.server_slot import ServerSlot, SlotClaims, Waiter
from ollama_router_core.fleet.clocked_fleet import ClockedFleet

__all__ = ["SharedSlots"]

_LONGEST_MOVE = 10.0
"""Maximum seconds that a retried request waits for a slot of the next server; as long as connecting may take."""


class _Moved(Protocol):
    """Move a slot to another server; `begun` if the fleet already counts its request there."""

    def __call__(self, slot: ServerSlot, server: str, *, begun: bool = False) -> None: ...


class _Move(Struct, eq=False):
    """A pending move of a slot to another server; `claiming` while its claim is unanswered."""

    slot: ServerSlot
    server: str
    until: float
    claiming: bool = False


class SharedSlots:
    """Claims slots of servers with a limit, and holds the moves that wait for one.

    Args:
        config: the limits.
        claims: grants the slots; None where this process alone counts them.
        fleet: the requests in flight.
        now: the fleet's clock, in seconds.
        moved: called for each slot that moves.
    """

    def __init__(
        self, config: Config, claims: SlotClaims | None, fleet: ClockedFleet, now: Callable[[], float], *, moved: _Moved
    ) -> None:
        self._config = config
        self._claims = claims
        self._fleet = fleet
        self._now = now
        self._moved = moved
        self._moves: dict[Waiter, _Move] = {}

    def reconfigure(self, config: Config) -> None:
        """Apply new limits."""
        self._config = config

    def includes(self, server: str) -> bool:
        """Whether slots of a server must be claimed."""
        return self._claims is not None and self._limit(server) is not None

    def _limit(self, server: str) -> int | None:
        settings = self._config.servers.get(server)
        return None if settings is None else settings.max_concurrent

    def claim(
        self, server: str, model: CanonicalName | None, done: Callable[[bool], None], *, arrived: float | None = None
    ) -> None:
        """Claim a slot of a server for which `includes` is true; see `SlotClaims.claim`."""
        limit = self._limit(server)
        if self._claims is None or limit is None:
            raise AssertionError(f"{server} has no slots to claim")
        self._claims.claim(server, model, limit, done, arrived=arrived)

    # --- moves --------------------------------------------------------------------------------------------------------

    @property
    def awaited(self) -> bool:
        """Whether a move waits."""
        return bool(self._moves)

    def move(self, slot: ServerSlot, server: str, wake: Callable[[], None]) -> Waiter:
        """Move a slot to a server once a slot there is granted; wake the waiter then."""
        waiter = Waiter(slot.number, wake)
        self._moves[waiter] = _Move(slot, server, self._now() + _LONGEST_MOVE)
        self.ask()
        return waiter

    def leave(self, waiter: Waiter) -> bool:
        """Cancel a move; return False if the waiter has none."""
        return self._moves.pop(waiter, None) is not None

    def ask(self) -> None:
        """Claim the slots of moves that are not claimed yet or were denied; without a limit a move is complete."""
        for waiter, move in tuple(self._moves.items()):
            if move.claiming:
                continue
            if not self.includes(move.server):  # a reload has removed the limit
                self._complete(waiter, move, begun=False)
                continue
            move.claiming = True
            self.claim(move.server, move.slot.decision.request.model, partial(self._claimed, waiter, move))

    def _claimed(self, waiter: Waiter, move: _Move, granted: bool) -> None:  # noqa: FBT001 - an answer
        move.claiming = False
        if waiter not in self._moves:
            if granted:
                self._fleet.end(move.server, move.slot.decision.request.model)
            return
        if granted:
            self._complete(waiter, move, begun=True)
        elif self._now() >= move.until:
            full = NoServerFits(f"{move.server} has no slot free", retry_after=5)
            self._end(waiter, Refused(full))

    def _complete(self, waiter: Waiter, move: _Move, *, begun: bool) -> None:
        self._moved(move.slot, move.server, begun=begun)
        self._end(waiter, move.slot)

    def _end(self, waiter: Waiter, outcome: ServerSlot | Refused) -> None:
        del self._moves[waiter]
        waiter.outcome = outcome
        waiter.wake()
