"""Actions that the machine requests from its driver: a closed union, each with its result and failure.

action                      result                      failure
Verify(headers, address)    Caller                      RouterError
ReadBody(limit, ...)        bytes                       RouterError
StreamBody(readers)         a BodyStream for each
Compute(function)           its value                   any exception it raises
Count(user)                 Reservation                 RouterError
Charge(reservation, tokens) bool: False while pending   RouterError
AwaitCharge(reservation)    None                        RouterError
Admit(...)                  ServerSlot, Queued or Refused
AwaitSlot(queued, ...)      ServerSlot or Refused; Queued, updated, after `seconds` or once it has joined the queue
LookForModels()             bool: whether it ran
UseStore(operation)         StoredResponse, None, or bool   RouterError
Send(request)               Upstream, immediately
AwaitHead(upstream, ...)    bool: whether it arrived    UpstreamError, Preempted
Receive(upstream, ...)      Piece                       UpstreamError
ReceiveAny(upstreams, ...)  Arrival, None on timeout
Release(upstreams)          None
WriteHead(status, fields)   None
Write(data)                 None, once the client's buffer has room
Finish(data)                None
Cut()                       None
Record(row)                 None
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.api.stored_responses import StoredResponse
from ollama_router_core.exchange.events import BodyStream, Caller, Headers, Preemption, Queued, Reservation, Upstream
from ollama_router_core.exchange.waiting import USUAL, Waiting
from ollama_router_core.outbound.destinations import Destination, Patience
from ollama_router_core.records.request_record import RequestRecord

__all__ = [
    "Action",
    "Admit",
    "AwaitCharge",
    "AwaitHead",
    "AwaitSlot",
    "Charge",
    "CollaboratorAction",
    "Compute",
    "Count",
    "Cut",
    "Fetch",
    "Finish",
    "Forget",
    "Keep",
    "LookForModels",
    "Outgoing",
    "ReadBody",
    "Receive",
    "ReceiveAny",
    "Record",
    "Release",
    "Send",
    "Steps",
    "StreamBody",
    "UseStore",
    "Verify",
    "Write",
    "WriteHead",
]


class Outgoing(Struct, frozen=True, kw_only=True):
    """One upstream request; `target` is path and query, built from the endpoint table.

    A streamed body has `body_length` bytes, or is sent chunked if that is None. A `repeatable` request may be sent
    twice. A `fresh` request uses a new connection. A request with a `preemption` is aborted if the preemption is
    requested before the response head arrives; `AwaitHead` then fails with `Preempted`.
    """

    destination: Destination
    method: str
    target: str
    fields: Headers = ()
    body: bytes | BodyStream = b""
    body_length: int | None = None
    patience: Patience
    repeatable: bool = False
    fresh: bool = False
    preemption: Preemption | None = None

    def __repr__(self) -> str:
        """Omit fields and body: they contain keys and users' texts."""
        return f"Outgoing({self.method} {self.target} at {self.destination.name})"


class Verify(Struct, frozen=True):
    """Authenticate the sender of the request by its header fields and address.

    With an authenticated `speaker`, resolve the person of this name on whose behalf the speaker asks.
    """

    headers: Headers
    address: str | None
    speaker: Caller | None = None
    person: str = ""

    def __repr__(self) -> str:
        """Omit the fields: they contain a token."""
        return "Verify()"


class ReadBody(Struct, frozen=True):
    """Read the whole request body, at most `limit` bytes after decompression; a `compressed` body is zstd."""

    limit: int
    compressed: bool


class StreamBody(Struct, frozen=True):
    """Stream the request body to this number of readers."""

    readers: int


class Compute(Struct, frozen=True):
    """Call a slow pure function outside the event loop."""

    function: Callable[[], Any]

    def __repr__(self) -> str:
        """Omit the function: it closes over a body."""
        return "Compute()"


class Count(Struct, frozen=True):
    """Count the request against its user's limits; its tokens are charged once the body is read."""

    user: Caller


class Charge(Struct, frozen=True):
    """Charge tokens to a counted request; other routers may have to confirm the charge."""

    reservation: Reservation
    tokens: int


class AwaitCharge(Struct, frozen=True):
    """Wait until other routers have confirmed or refused the charge."""

    reservation: Reservation


class Admit(Struct, frozen=True):
    """Get a slot on a server, or a place in the queue. `conversation` identifies the conversation of this turn.

    `waiting` holds the maximum wait and the priority.
    """

    request: ParsedRequest
    user: str
    conversation: int | None
    waiting: Waiting = USUAL


class AwaitSlot(Struct, frozen=True):
    """Wait in the queue for at most `seconds`; without a position, until the request has one."""

    queued: Queued
    seconds: float | None = None


class LookForModels(Struct, frozen=True):
    """Request the model list of every server, unless that happened in the last few seconds."""


class Fetch(Struct, frozen=True):
    """Fetch the response that is stored for a user under an id; None if there is none."""

    user: int | None
    id: str


class Keep(Struct, frozen=True):
    """Store a response for a user, within the limits of the config."""

    user: int | None
    response: StoredResponse


class Forget(Struct, frozen=True):
    """Delete a stored response; the result says whether it existed."""

    user: int | None
    id: str


class UseStore(Struct, frozen=True):
    """Access the response store."""

    operation: Fetch | Keep | Forget


class Send(Struct, frozen=True):
    """Send a request to a server; `AwaitHead` reports the outcome."""

    request: Outgoing


class AwaitHead(Struct, frozen=True):
    """Wait for the head of a response, for at most `seconds`."""

    upstream: Upstream
    seconds: float | None = None


class Receive(Struct, frozen=True):
    """Wait for the next piece of a response body; fail with a timeout after `seconds`."""

    upstream: Upstream
    seconds: float | None = None


class ReceiveAny(Struct, frozen=True):
    """Wait for the next piece of any of several responses, for at most `seconds`."""

    upstreams: tuple[Upstream, ...]
    seconds: float | None = None


class Release(Struct, frozen=True):
    """Return connections whose response is complete to the pool, and close the others."""

    upstreams: tuple[Upstream, ...]


class WriteHead(Struct, frozen=True):
    """Write the response head to the client."""

    status: int
    fields: Headers


class Write(Struct, frozen=True):
    """Write a piece of the response, and wait while the client applies backpressure."""

    data: bytes


class Finish(Struct, frozen=True):
    """Write the last piece and complete the response."""

    data: bytes


class Cut(Struct, frozen=True):
    """Close the connection, so that the client sees an incomplete response."""


class Record(Struct, frozen=True):
    """Log the row of a finished exchange. Every exchange ends with this action."""

    row: RequestRecord


CollaboratorAction = (
    Verify
    | StreamBody
    | Compute
    | Count
    | Charge
    | AwaitCharge
    | Admit
    | AwaitSlot
    | LookForModels
    | UseStore
    | Send
    | AwaitHead
    | Receive
    | ReceiveAny
    | Release
)
"""Actions that do not use the client connection: all server drivers perform them alike."""
Action = CollaboratorAction | ReadBody | WriteHead | Write | Finish | Cut | Record

_Result = TypeVar("_Result")
Steps = Generator[Action, Any, _Result]
"""A part of an exchange: a generator that yields actions, receives their results and returns a value."""
