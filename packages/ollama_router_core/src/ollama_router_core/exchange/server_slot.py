"""A request's slot on a server, and its place while it waits for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.exchange.events import Preemption, Queued, Refused
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.fleet.health import BreakerPermit
from ollama_router_core.routing.decision import Decision

__all__ = ["ServerSlot", "SlotClaims", "Waiter"]


class SlotClaims(Protocol):
    """Slots that this process shares with others, so that its own counts may be stale."""

    def claim(
        self,
        name: str,
        model: CanonicalName | None,
        limit: int,
        done: Callable[[bool], None],
        *,
        arrived: float | None = None,
    ) -> None:
        """Claim one of a server's `limit` slots; the request counts as in flight until `done` is called with False.

        `done` is called once, later, with whether the slot was granted. Requests that `arrived` earlier go first; one
        without an arrival time goes before all.
        """


class SlotIssuer(Protocol):
    """The admission controller as its slots see it: it issues slots and is notified of their changes."""

    @property
    def fleet(self) -> ClockedFleet:
        """The fleet of the slots."""

    def opened(self, slot: ServerSlot) -> None:
        """Record an opened slot."""

    def move(self, slot: ServerSlot, server: str, wake: Callable[[], None]) -> Queued | None:
        """Move a slot to the next server to try: immediately, or once other routers have granted a slot there."""

    def has_room(self, server: str) -> bool:
        """Whether a server can take one more request immediately."""

    def take_retry(self) -> bool:
        """Take one retry from the fleet's budget, if any is left."""

    def answering(self, slot: ServerSlot) -> None:
        """Record the start of a response."""

    def finished(self, slot: ServerSlot) -> None:
        """Record a freed slot."""

    def requeue(self, slot: ServerSlot) -> Queued:
        """Free a slot and queue its request again."""


class ServerSlot:
    """A request's slot on a server of its decision, until `close`.

    Attributes:
        unload: models to unload on the server first.
        preemption: preempts the request; None if it cannot be preempted.
        position: the position at which the request joined the queue, from 1; 0 if it did not queue.
        wake: called when a wait has its outcome.
    """

    __slots__ = (
        "_admission", "_closed", "_first", "_retries", "decision", "number", "position", "preemption", "server",
        "unload", "wake",
    )  # fmt: skip

    def __init__(
        self,
        admission: SlotIssuer,
        number: int,
        decision: Decision,
        *,
        unload: tuple[CanonicalName, ...] = (),
        begun: bool = False,
        wake: Callable[[], None] = lambda: None,
        preemption: Preemption | None = None,
        position: int = 0,
    ) -> None:
        self._admission = admission
        self.position = position
        self.wake = wake
        self.preemption = preemption
        self._closed = False
        self._retries = 0
        self.number = number
        self.decision = decision
        self.server = decision.ranking[0]
        self.unload = unload
        admission.opened(self)
        if not begun:
            admission.fleet.begin(self.server, decision.request.model)
        forced = decision.strategy == "explicit_assignment"
        self._first: BreakerPermit | None = admission.fleet.permit(
            self.server, forced=forced, model=decision.request.model
        )

    def move(self, server: str) -> Queued | None:
        """Move the slot to a server of the ranking; return the wait if other routers have to grant the slot."""
        return None if server == self.server else self._admission.move(self, server, self.wake)

    def moved(self, server: str) -> None:
        """Record the slot's new server."""
        self.server = server
        if self.preemption is not None:
            self.preemption = Preemption()  # the preempting request has the old slot
        if self._first is not None:
            self._first.left()
            self._first = None

    def permit(self, server: str) -> BreakerPermit | None:
        """Return the permit to send one request to the slot's server; None while that server is suspended."""
        if self._first is not None:
            permit, self._first = self._first, None
            return permit
        return self._admission.fleet.permit(server, model=self.decision.request.model)

    def may_retry(self, server: str) -> bool:
        """Return whether a retry is allowed: the server has a free slot, or the router's budget pays for it."""
        if self._admission.has_room(server):
            return True
        if not self._admission.take_retry():
            return False
        self._retries += 1
        return True

    def answering(self) -> None:
        """Record the response head, which shows that the model is loaded."""
        self._admission.answering(self)

    def close(self) -> None:
        """Release the slot, for the next request in the queue."""
        if self._give_back():
            self._admission.finished(self)

    def requeue(self) -> Queued:
        """Release the slot after a preemption, and queue for another.

        Raises:
            ValueError: the slot is closed.
        """
        if not self._give_back():
            raise ValueError("the slot is closed")
        return self._admission.requeue(self)

    def _give_back(self) -> bool:
        """Release the slot; return False if it was closed."""
        if self._closed:
            return False
        self._closed = True
        if self._first is not None:
            self._first.left()
        for _ in range(self._retries):
            self._admission.fleet.health.retries.give_back()
        self._admission.fleet.end(self.server, self.decision.request.model)
        return True


class Waiter(Struct, eq=False):
    """One request in the queue; `wake` is called when it has an outcome.

    `decision` is the one that made it wait, None if the queue did. `claims` is True while a shared slot is being
    claimed, `preempted` if the request has to leave that slot as soon as it gets it.
    """

    number: int
    wake: Callable[[], None]
    decision: Decision | None = None
    outcome: ServerSlot | Refused | None = None
    claims: bool = False
    preempted: bool = False
