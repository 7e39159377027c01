"""A response whose head has arrived: its body, its error, and the feedback on its release."""

from __future__ import annotations

from msgspec import Struct

from ollama_router_core.errors import UpstreamError, UpstreamIncomplete
from ollama_router_core.exchange.actions import Receive, Release, Steps
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Piece, Upstream
from ollama_router_core.exchange.feedback import Sent, note_finished
from ollama_router_core.exchange.heartbeat import StreamHeartbeat
from ollama_router_core.exchange.key_redaction import Redactor
from ollama_router_core.fleet.health import BreakerPermit
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.outbound.sending import Outbound, Translation

__all__ = ["LONGEST_ERROR", "Answer", "look_at", "read_error", "release"]

LONGEST_ERROR = 64 * 1024
"""Maximum bytes read of a server's error."""


class Answer(Struct, eq=False):
    """A response whose head has arrived; `complete` once its whole body was taken.

    A response from the ranking has a `permit`, which `release` ends, and `sent`, to learn from. `held` is the beginning
    of its body, if already read; `asked` the request of a host that may be asked again. `retry` has the statuses after
    which the host accepts the same request again, None if unknown.
    """

    destination: Destination
    upstream: Upstream
    permit: BreakerPermit | None = None
    sent: Sent | None = None
    translation: Translation | None = None
    redactor: Redactor | None = None
    held: Piece | None = None
    heartbeat: StreamHeartbeat | None = None
    counts_unasked: bool = False
    asked: Outbound | None = None
    retry: frozenset[int] | None = None
    complete: bool = False
    released: bool = False

    @property
    def status(self) -> int:
        """The response status."""
        return self.upstream.status

    def take(self, piece: Piece) -> bytes:
        """Take the bytes of the next piece, with the router's keys masked."""
        self.complete = piece.complete
        return piece.data if self.redactor is None else self.redactor.redact(piece)


def read_error(answer: Answer) -> Steps[bytes]:
    """Read the body of an error, up to about `LONGEST_ERROR` bytes.

    Raises:
        UpstreamError: the body was cut off.
    """
    pieces: list[bytes] = []
    size = 0
    receive = Receive(answer.upstream)
    while size < LONGEST_ERROR and not answer.complete:
        piece: Piece = answer.held or (yield receive)
        answer.held = None
        pieces.append(answer.take(piece))
        size += len(pieces[-1])
    return b"".join(pieces)


def release(environment: Environment, context: RequestContext, answer: Answer) -> Steps[None]:
    """Release the connection, and learn from how the response ended; only the first call has an effect."""
    if answer.released:
        return
    answer.released = True
    permit, error = answer.permit, context.error
    if permit is not None:
        now = environment.now()
        if isinstance(error, UpstreamIncomplete) and not _has_error_event(context):
            permit.unable(error.message, now, at_once=False)
        elif isinstance(error, UpstreamError) and not answer.complete:
            permit.failed(now)
        elif answer.complete:
            permit.done(now)
            if answer.sent is not None:
                note_finished(environment.fleet, answer.sent, context, now)
        else:
            permit.left()
    yield Release((answer.upstream,))


def _has_error_event(context: RequestContext) -> bool:
    """Whether the stream contains an error, which the request may have caused."""
    return context.usage is not None and context.usage.usage.failed


def look_at(answer: Answer) -> Steps[bytes]:
    """Read the body of an error and keep it for the relay; release the connection if the body is cut off."""
    try:
        body = yield from read_error(answer)
    except BaseException:
        yield Release((answer.upstream,))
        raise
    answer.held, answer.complete = Piece(body, answer.complete), False
    return body
