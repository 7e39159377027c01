"""What a request holds while it is served, its slot on a server, and what it holds while it waits for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.exchange.events import Preemption, Queued, Refused
from ollama_router_core.fleet.health import BreakerPermit, Health
from ollama_router_core.fleet.snapshot import FleetSnapshot
from ollama_router_core.routing.decision import Decision

__all__ = ["ServerSlot", "SlotClaims", "SlotFleet", "Waiter"]


class SlotFleet(Protocol):
    """What is believed about the servers, and what is in flight there."""

    @property
    def snapshot(self) -> FleetSnapshot:
        """The fleet as believed now."""

    @property
    def health(self) -> Health:
        """Breakers and the retry budget."""

    @property
    def shares(self) -> bool:
        """Whether other processes may free or take a server."""

    def begin(self, name: str, model: CanonicalName | None = None) -> None:
        """Note that a request for a model goes to a server."""

    def end(self, name: str, model: CanonicalName | None = None) -> None:
        """Note that it ended there."""

    def moved(self, old: str, new: str, model: CanonicalName | None = None) -> None:
        """Note that the server of a request has another name now, as another server has its own."""

    def permit(self, server: str, *, forced: bool = False, model: CanonicalName | None = None) -> BreakerPermit | None:
        """Return the right to send one request now, None while the server, or its model, is suspended."""

    def take_retry(self, waiting: int) -> bool:
        """Take one retry from the budget, if it has one; `waiting` requests count as in flight too."""


class SlotClaims(Protocol):
    """Slots that this process shares with others, where what it knows of them may be out of date."""

    def claim(
        self,
        name: str,
        model: CanonicalName | None,
        limit: int,
        done: Callable[[bool], None],
        *,
        arrived: float | None = None,
    ) -> None:
        """Ask for one of a server's `limit` slots; the request counts as begun until `done` is called with False.

        `done` is called once, later, with whether there was a slot for a request that arrived then: those that wait
        longer for the server go first. One without a moment goes before all that wait.
        """


class SlotIssuer(Protocol):
    """Who gives slots, and is told what becomes of them: the controller of admissions."""

    @property
    def fleet(self) -> SlotFleet:
        """Where the slots are."""

    def opened(self, slot: ServerSlot) -> None:
        """Note that a slot is taken."""

    def move(self, slot: ServerSlot, server: str, wake: Callable[[], None]) -> Queued | None:
        """Move a slot to the next server that is tried: at once, or when other routers have left it a slot there."""

    def has_room(self, server: str) -> bool:
        """Whether a server takes one more request at once."""

    def take_retry(self) -> bool:
        """Take one of the fleet's retries, if there is one left."""

    def answering(self, slot: ServerSlot) -> None:
        """Note that an answer began."""

    def finished(self, slot: ServerSlot) -> None:
        """Note that a slot is free."""

    def requeue(self, slot: ServerSlot) -> Queued:
        """Free a slot whose request waits for another."""


class ServerSlot:
    """A request's slot on a server of its decision, until `close`.

    Attributes:
        unload: what has to be unloaded there before.
        preemption: by which it may be taken off, None where it may not.
        position: the one in the queue with which its request joined that, 0 where it did not wait there.
        wake: called when something waited for has come.
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
        """Move the slot to a server of the ranking; what to wait for where other routers have to be asked first."""
        return None if server == self.server else self._admission.move(self, server, self.wake)

    def moved(self, server: str) -> None:
        """Be on another server from now on."""
        self.server = server
        if self.preemption is not None:
            self.preemption = Preemption()  # who wanted the slot that was left has it
        if self._first is not None:
            self._first.left()
            self._first = None

    def permit(self, server: str) -> BreakerPermit | None:
        """Return the right to send one request to the slot's server; None while that server is suspended."""
        if self._first is not None:
            permit, self._first = self._first, None
            return permit
        return self._admission.fleet.permit(server, model=self.decision.request.model)

    def may_retry(self, server: str) -> bool:
        """Take one retry from the budget of the whole router; a server with a free slot takes it in any case."""
        if self._admission.has_room(server):
            return True
        if not self._admission.take_retry():
            return False
        self._retries += 1
        return True

    def answering(self) -> None:
        """Note the head of the answer: the model is loaded."""
        self._admission.answering(self)

    def close(self) -> None:
        """Give the slot back; the next in the queue may have it."""
        if self._give_back():
            self._admission.finished(self)

    def requeue(self) -> Queued:
        """Give the slot back after a preemption, and wait for another.

        Raises:
            ValueError: it was closed.
        """
        if not self._give_back():
            raise ValueError("the slot is closed")
        return self._admission.requeue(self)

    def _give_back(self) -> bool:
        """Whether it was still held."""
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

    `decision` is the one by which it has to wait, if the queue was not simply before it. `claims` is True while it
    waits for a slot to be granted in common, `preempted` if it has to leave that as soon as it has it.
    """

    number: int
    wake: Callable[[], None]
    decision: Decision | None = None
    outcome: ServerSlot | Refused | None = None
    claims: bool = False
    preempted: bool = False
