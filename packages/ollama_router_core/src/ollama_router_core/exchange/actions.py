"""What the machine asks its driver to do: the closed union of actions, and what each is answered with.

action                      result                      failure
Verify(headers, address)    Caller                      RouterError
ReadBody(limit, ...)        bytes                       RouterError
StreamBody(readers)         a BodyStream for each
Compute(function)           its value                   what it raises
Count(user)                 Reservation                 RouterError
Charge(reservation, tokens) bool: False while it is asked   RouterError
AwaitCharge(reservation)    None                        RouterError
Admit(...)                  Slot, Queued or Refused
AwaitSlot(queued, ...)      Slot or Refused; Queued, as it stands then: time is up, or it has joined
LookForModels()             bool: was it done
UseStore(operation)         StoredResponse, None, or bool   RouterError
Send(request)               Upstream, at once
AwaitHead(upstream, ...)    bool: has it come           UpstreamError, Preempted
Receive(upstream, ...)      Piece                       UpstreamError
ReceiveAny(upstreams, ...)  Arrival, None if time is up
Release(upstreams)          None
WriteHead(status, fields)   None
Write(data)                 None, once more may be written
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
    """One request as it is sent; `target` is path and query, built from the endpoint table.

    A body that is streamed has `body_length` bytes, or is sent in chunks if that is None. `repeatable` says that the
    server may be asked twice. A `fresh` one goes over a connection that was never used. One with a `preemption` is cut
    off when that is requested before the head of its answer has come; then `AwaitHead` fails with `Preempted`.
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
        """Without fields and body: they hold keys and what people write."""
        return f"Outgoing({self.method} {self.target} at {self.destination.name})"


class Verify(Struct, frozen=True):
    """Find out who sent the request with these header fields from this address.

    With a `speaker` that is known: the person of this name, for whom the speaker asks.
    """

    headers: Headers
    address: str | None
    speaker: Caller | None = None
    person: str = ""

    def __repr__(self) -> str:
        """Without the fields: they hold a token."""
        return "Verify()"


class ReadBody(Struct, frozen=True):
    """Read the whole body of the request, at most `limit` bytes, decompressed with zstd if it is `compressed`."""

    limit: int
    compressed: bool


class StreamBody(Struct, frozen=True):
    """Pass the body on as it comes, to as many readers."""

    readers: int


class Compute(Struct, frozen=True):
    """Call a pure function that takes long, where nobody waits for it."""

    function: Callable[[], Any]

    def __repr__(self) -> str:
        """Without the function: it holds a body."""
        return "Compute()"


class Count(Struct, frozen=True):
    """Count the request against its user's limits; what it uses of tokens is charged once its body was read."""

    user: Caller


class Charge(Struct, frozen=True):
    """Charge tokens to a request that counts, now that its body says what is asked for; others may have to be asked."""

    reservation: Reservation
    tokens: int


class AwaitCharge(Struct, frozen=True):
    """Wait until others have said whether the tokens are left that were to be charged."""

    reservation: Reservation


class Admit(Struct, frozen=True):
    """Get a slot on a server, or a place in the queue. `conversation` is a number for the one it is a turn of.

    `waiting` is how long it may wait and before whom.
    """

    request: ParsedRequest
    user: str
    conversation: int | None
    waiting: Waiting = USUAL


class AwaitSlot(Struct, frozen=True):
    """Wait in the queue, for at most `seconds`; one that has no position yet, until it has one."""

    queued: Queued
    seconds: float | None = None


class LookForModels(Struct, frozen=True):
    """Ask every server for its models, unless that was done in the last seconds."""


class Fetch(Struct, frozen=True):
    """The answer that is kept for a user under an id, None without one."""

    user: int | None
    id: str


class Keep(Struct, frozen=True):
    """Keep an answer for a user, within the bounds of the config."""

    user: int | None
    response: StoredResponse


class Forget(Struct, frozen=True):
    """Forget an answer; says whether it was kept."""

    user: int | None
    id: str


class UseStore(Struct, frozen=True):
    """Ask the store of answers."""

    operation: Fetch | Keep | Forget


class Send(Struct, frozen=True):
    """Send a request to a server; what comes of it is for `AwaitHead`."""

    request: Outgoing


class AwaitHead(Struct, frozen=True):
    """Wait for the head of an answer, for at most `seconds`."""

    upstream: Upstream
    seconds: float | None = None


class Receive(Struct, frozen=True):
    """Wait for the next piece of an answer. After `seconds` it is a timeout."""

    upstream: Upstream
    seconds: float | None = None


class ReceiveAny(Struct, frozen=True):
    """Wait for the next piece of any of several answers, for at most `seconds`."""

    upstreams: tuple[Upstream, ...]
    seconds: float | None = None


class Release(Struct, frozen=True):
    """Give the connections back where the answer is complete, and cut the others."""

    upstreams: tuple[Upstream, ...]


class WriteHead(Struct, frozen=True):
    """Write the head of the answer."""

    status: int
    fields: Headers


class Write(Struct, frozen=True):
    """Write a piece of the answer, and wait while the client takes less than was written."""

    data: bytes


class Finish(Struct, frozen=True):
    """Write the last piece: the answer is complete."""

    data: bytes


class Cut(Struct, frozen=True):
    """End the connection: the answer is not complete, and the client has to see that."""


class Record(Struct, frozen=True):
    """The exchange is over, and this is its row for the log. Always the last action, and never missing."""

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
"""Actions that do not concern the connection to the client: every driver of a server carries them out alike."""
Action = CollaboratorAction | ReadBody | WriteHead | Write | Finish | Cut | Record

_Result = TypeVar("_Result")
Steps = Generator[Action, Any, _Result]
"""A part of an exchange: yields actions, is sent their results, returns what they were for."""
