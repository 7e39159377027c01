"""What a driver tells the machine: results of actions, and what interrupts an exchange.

An action that fails is answered with `Exchange.fail`, an exchange that has to end with `Exchange.interrupt`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from ollama_router_core.access.grants import Grants, Role
from ollama_router_core.errors import Forbidden, Overloaded, RequestCancelled, RouterError, UpstreamError

if TYPE_CHECKING:
    from ollama_router_core.api.model_names import CanonicalName
    from ollama_router_core.fleet.health import BreakerPermit
    from ollama_router_core.routing.decision import Decision

__all__ = [
    "Arrival",
    "BodyStream",
    "Caller",
    "Cancelled",
    "ClientLeft",
    "Headers",
    "Interruption",
    "Piece",
    "Preempted",
    "Preemption",
    "Queued",
    "Refused",
    "Reservation",
    "Revoked",
    "Shutdown",
    "Slot",
    "Upstream",
]

Headers = Sequence[tuple[bytes, bytes]]
"""Header fields in order, names in lower case."""


# --- interruptions ----------------------------------------------------------------------------------------------------


class Interruption(Exception):
    """The exchange has to end now."""


class ClientLeft(Interruption):
    """The client closed its connection; nobody is left to answer."""


class Revoked(Interruption):
    """The user's token was revoked, or the user deactivated, or access has expired."""

    @property
    def error(self) -> RouterError:
        """What the client is told."""
        return Forbidden("the token was revoked, or its user deactivated or expired, while the request was in flight")


class Cancelled(Interruption):
    """Somebody who may has ended the request; `by` is their name."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by

    @property
    def error(self) -> RouterError:
        """What the client is told."""
        return RequestCancelled(f"the request was cancelled by {self.by}")


class Shutdown(Interruption):
    """The grace period of a shutdown is over."""

    @property
    def error(self) -> RouterError:
        """What the client is told."""
        return Overloaded("the router is stopping", retry_after=1)


# --- preemption -------------------------------------------------------------------------------------------------------


class Preempted(Exception):
    """A request that a `Preemption` came with was taken off its server before its answer began. No fault of anybody."""


class Preemption:
    """A request of batch priority may have to leave its server before its answer begins.

    Attributes:
        requested: it has to; an answer that has begun all the same stands.
    """

    __slots__ = ("_leave", "requested")

    def __init__(self) -> None:
        self.requested = False
        self._leave: Callable[[], object] = bool

    def on_request(self, leave: Callable[[], object]) -> None:
        """Call `leave` when it has to, at once if it has to already: waiting for the head of its answer then fails."""
        self._leave = leave
        if self.requested:
            leave()

    def request(self) -> None:
        """Make it leave."""
        self.requested = True
        self._leave()


# --- results ----------------------------------------------------------------------------------------------------------


class Caller(Protocol):
    """The verified sender of the request."""

    @property
    def id(self) -> int:
        """Unique among users."""

    @property
    def name(self) -> str:
        """Unique, too, and shown."""

    @property
    def role(self) -> Role:
        """What the user may do in general."""

    @property
    def grants(self) -> Grants:
        """What the user may do in particular, and how much."""


class Reservation(Protocol):
    """A request that counts against its user's limits, until it is settled."""

    def settle(self, tokens: int) -> None:
        """Settle the request, which has ended, for the tokens that it used."""


class BodyStream(Protocol):
    """The request's body on its way to one server; the driver knows what is behind it."""


class Slot(Protocol):
    """A slot on a server, held until `close`.

    `decision` ranks the servers that may be tried.
    """

    decision: Decision

    @property
    def server(self) -> str:
        """The server that the slot is on."""

    @property
    def unload(self) -> tuple[CanonicalName, ...]:
        """Models to be unloaded there before."""

    @property
    def position(self) -> int:
        """The position in the queue with which the request joined that, from 1; 0 where it did not wait there."""

    def move(self, server: str) -> Queued | None:
        """Move the slot to a server of the ranking; what to wait for where other routers have to be asked first."""

    def permit(self, server: str) -> BreakerPermit | None:
        """Return the right to send one request to the slot's server; None while that server is suspended."""

    def may_retry(self, server: str) -> bool:
        """Take one retry from the router's budget, if it has one; a server with a free slot takes it in any case."""

    @property
    def preemption(self) -> Preemption | None:
        """What goes along with what is sent there, None for what stays until it is answered."""

    def answering(self) -> None:
        """Note the head of an answer: the model is loaded."""

    def requeue(self) -> Queued:
        """Give the slot back after a preemption, and wait for another."""

    def close(self) -> None:
        """Give the slot back."""


class Queued(Struct, frozen=True, eq=False):
    """The request waits for a slot; `position` counts from 1, `expected_wait` is in seconds.

    There is no position for one that waits only until others were asked.

    `waiting` is what the driver knows it by. `leave` gives up its place, and a slot that it was given meanwhile.
    """

    position: int | None
    expected_wait: float
    waiting: object
    leave: Callable[[], None]


class Refused(Struct, frozen=True, eq=False):
    """There is no slot, and there will be none; `decision` says why where one was made."""

    error: RouterError
    decision: Decision | None = None


class Upstream(Protocol):
    """A request that was sent to a server, until it is released. `status` is 0 until the head of the answer came."""

    @property
    def status(self) -> int:
        """The status of the answer, 0 before its head came."""

    @property
    def headers(self) -> Headers:
        """The fields of that head, empty before."""

    @property
    def connect_seconds(self) -> float:
        """How long its connection took to make; 0 for one that was kept, and where nobody knows."""


class Piece(Struct, frozen=True):
    """Bytes of an answer's body; `complete` says that they are the last."""

    data: bytes
    complete: bool


class Arrival(Struct, frozen=True, eq=False):
    """What came from one of several servers: a piece, or the failure that ended its answer."""

    upstream: Upstream
    result: Piece | UpstreamError
