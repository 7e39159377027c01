"""What a driver reports to the machine: results of actions, and interruptions.

A driver reports a failed action with `Exchange.fail`, and ends an exchange with `Exchange.interrupt`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from ollama_router_core.access.grants import Grants, Role
from ollama_router_core.errors import Forbidden, Overloaded, RequestCancelled, RouterError, UpstreamError

if TYPE_CHECKING:
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
    "Upstream",
]

Headers = Sequence[tuple[bytes, bytes]]
"""Header fields in order, with lower-case names."""


# --- interruptions ----------------------------------------------------------------------------------------------------


class Interruption(Exception):
    """The exchange must end now."""


class ClientLeft(Interruption):
    """The client closed its connection."""


class Revoked(Interruption):
    """The token was revoked, or its user was deactivated or expired."""

    @property
    def error(self) -> RouterError:
        """The error for the client."""
        return Forbidden("the token was revoked, or its user deactivated or expired, while the request was in flight")


class Cancelled(Interruption):
    """An authorized user cancelled the request; `by` is their name."""

    def __init__(self, by: str) -> None:
        super().__init__()
        self.by = by

    @property
    def error(self) -> RouterError:
        """The error for the client."""
        return RequestCancelled(f"the request was cancelled by {self.by}")


class Shutdown(Interruption):
    """The grace period of a shutdown is over."""

    @property
    def error(self) -> RouterError:
        """The error for the client."""
        return Overloaded("the router is stopping", retry_after=1)


# --- preemption -------------------------------------------------------------------------------------------------------


class Preempted(Exception):
    """A preemption removed the request from its server before the response began. No failure of the server."""


class Preemption:
    """The means to preempt a batch request before its response begins.

    Attributes:
        requested: whether preemption was requested; a response that has begun continues.
    """

    __slots__ = ("_leave", "requested")

    def __init__(self) -> None:
        self.requested = False
        self._leave: Callable[[], object] = bool

    def on_request(self, leave: Callable[[], object]) -> None:
        """Call `leave` on request, immediately if already requested; it must fail the wait for the response head."""
        self._leave = leave
        if self.requested:
            leave()

    def request(self) -> None:
        """Request the preemption."""
        self.requested = True
        self._leave()


# --- results ----------------------------------------------------------------------------------------------------------


class Caller(Protocol):
    """The authenticated user of the request."""

    @property
    def id(self) -> int:
        """Unique among users."""

    @property
    def name(self) -> str:
        """Unique among users, and displayed."""

    @property
    def role(self) -> Role:
        """The user's role."""

    @property
    def grants(self) -> Grants:
        """The user's permissions and limits."""


class Reservation(Protocol):
    """The count of a request against its user's limits, until it is settled."""

    def settle(self, tokens: int) -> None:
        """Replace the estimated tokens with those that the finished request used."""


class BodyStream(Protocol):
    """The request body as streamed to one server; opaque to the machine."""


class Queued(Struct, frozen=True, eq=False):
    """The request waits for a slot; `position` counts from 1, `expected_wait` is in seconds.

    `position` is None while the request only awaits a grant by other routers. `waiting` identifies it to the driver.
    `leave` gives up its place, and a slot granted in the meantime.
    """

    position: int | None
    expected_wait: float
    waiting: object
    leave: Callable[[], None]


class Refused(Struct, frozen=True, eq=False):
    """The request gets no slot; `decision` explains why, if one was made."""

    error: RouterError
    decision: Decision | None = None


class Upstream(Protocol):
    """A request sent to a server, until it is released."""

    @property
    def status(self) -> int:
        """The response status, 0 before the head arrives."""

    @property
    def headers(self) -> Headers:
        """The response header fields, empty before the head arrives."""

    @property
    def connect_seconds(self) -> float:
        """Seconds that connecting took; 0 for a reused connection, or if unknown."""


class Piece(Struct, frozen=True):
    """Bytes of a response body; `complete` marks the last."""

    data: bytes
    complete: bool


class Arrival(Struct, frozen=True, eq=False):
    """What arrived from one of several servers: a piece, or the error that ended its response."""

    upstream: Upstream
    result: Piece | UpstreamError
