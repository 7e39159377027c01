"""Walking the ranking: send, judge what came of it, try the next server."""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import ConnectFailed, UpstreamError, UpstreamProtocolError
from ollama_router_core.exchange.actions import AwaitHead, Outgoing, Release, Send, Steps
from ollama_router_core.exchange.asking import refuse_redirect
from ollama_router_core.exchange.computing import computed
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Piece, Slot, Upstream
from ollama_router_core.exchange.feedback import Sent, note_finished, note_sent
from ollama_router_core.exchange.heartbeat import StreamHeartbeat, heartbeat_for
from ollama_router_core.exchange.redaction import Redactor, redactor_for
from ollama_router_core.fleet.health import BreakerPermit
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.outbound.header_fields import request_fields
from ollama_router_core.outbound.sending import Outbound, Translation, prepare
from ollama_router_core.routing.forwarding import (
    Broken,
    GiveUp,
    Outcome,
    Relay,
    Unreachable,
    forward,
    outcome_of_status,
)

__all__ = ["Answer", "forward_request", "release"]


class Answer(Struct, eq=False):
    """An answer whose head has arrived; `complete` once all of its body was taken.

    One of the ranking's has a permit, which `release` ends, and facts about the server to learn from.
    """

    destination: Destination
    upstream: Upstream
    permit: BreakerPermit | None = None
    sent: Sent | None = None
    translation: Translation | None = None
    redactor: Redactor | None = None
    complete: bool = False
    released: bool = False

    @property
    def status(self) -> int:
        """The server's status."""
        return self.upstream.status

    def take(self, piece: Piece) -> bytes:
        """The bytes of the next piece, without our keys."""
        self.complete = piece.complete
        return piece.data if self.redactor is None else self.redactor.redact(piece)


def release(environment: Environment, context: RequestContext, answer: Answer) -> Steps[None]:
    """Give the connection back, and learn from how the answer ended, once."""
    if answer.released:
        return
    answer.released = True
    permit = answer.permit
    if permit is not None:
        if isinstance(context.error, UpstreamError):
            permit.failed(environment.now())
        elif answer.complete:
            permit.done(environment.now())
            if answer.sent is not None:
                note_finished(environment.fleet, answer.sent, context)
        else:
            permit.left()
    yield Release((answer.upstream,))


def forward_request(
    environment: Environment, context: RequestContext, request: ParsedRequest, slot: Slot
) -> Steps[Answer]:
    """Try the servers of the ranking until one answers.

    Raises:
        RouterError: none did; the error is what the client gets.
    """
    heartbeat = heartbeat_for(environment, context, request)
    steps = forward(slot.decision.ranking, may_retry=slot.may_retry)
    step = next(steps)
    while True:
        context.server, context.attempts = step.server, step.attempt
        destination = environment.destinations[step.server]
        outcome, answer = yield from _try(environment, context, request, slot, destination, heartbeat)
        try:
            step = steps.send(outcome)
        except StopIteration as stop:
            return (yield from _concluded(environment, context, stop.value, answer))
        if answer is not None:
            yield from release(environment, context, answer)


def _concluded(
    environment: Environment, context: RequestContext, result: Relay | GiveUp, answer: Answer | None
) -> Steps[Answer]:
    if isinstance(result, Relay) and answer is not None:
        return answer
    if answer is not None:
        yield from release(environment, context, answer)
    raise (result.error if isinstance(result, GiveUp) else None) or UpstreamProtocolError("there is no answer to relay")


def _try(
    environment: Environment,
    context: RequestContext,
    request: ParsedRequest,
    slot: Slot,
    destination: Destination,
    heartbeat: StreamHeartbeat | None,
) -> Steps[tuple[Outcome, Answer | None]]:
    permit = slot.permit(destination.name)
    if permit is None:
        alone = ConnectFailed(f"{destination.name} is suspended after repeated failures")
        return Unreachable(alone, 0.0), None
    started = environment.now()
    try:
        outbound = yield from computed(len(request.body), partial(prepare, request, destination))
        sent = note_sent(environment.fleet, destination.name, request)
        upstream = yield from _head(environment, context, _outgoing(context, destination, outbound), heartbeat)
    except UpstreamError as error:
        return _failed(environment, context, destination, permit, error, started), None
    except BaseException:
        permit.left()
        raise
    if context.observer is not None:
        context.observer.answered(upstream.status)
    permit.head(upstream.status, environment.now())
    answer = Answer(destination, upstream, permit, sent, outbound.translation, redactor_for(destination))
    return outcome_of_status(upstream.status), answer


def _head(
    environment: Environment, context: RequestContext, request: Outgoing, heartbeat: StreamHeartbeat | None
) -> Steps[Upstream]:
    """Send, and wait for the head of the answer; the client may get heartbeats meanwhile."""
    server = request.destination.name
    if heartbeat is not None:
        heartbeat.look(environment, server)
    upstream: Upstream = yield Send(request)
    try:
        wait = AwaitHead(upstream, None if heartbeat is None else heartbeat.interval)
        while not (yield wait):
            if heartbeat is not None:
                yield from heartbeat.beat(environment, context, server)
        refuse_redirect(request.destination, upstream.status)
    except BaseException:
        yield Release((upstream,))
        raise
    return upstream


def _failed(
    environment: Environment,
    context: RequestContext,
    destination: Destination,
    permit: BreakerPermit,
    error: UpstreamError,
    started: float,
) -> Outcome:
    if context.observer is not None:
        context.observer.failed(error.code)
    now = environment.now()
    if isinstance(error, ConnectFailed):
        permit.failed(now, refused=True)
        environment.fleet.refresh_soon(destination.name)
        return Unreachable(error, now - started)
    permit.failed(now)
    return Broken(error)


def _outgoing(context: RequestContext, destination: Destination, outbound: Outbound) -> Outgoing:
    own = outbound.headers
    if context.observer is not None:
        own = (*own, *context.observer.sending(context, destination.name))
    return Outgoing(
        destination=destination,
        method=context.method,
        target=outbound.target,
        fields=request_fields(
            context.headers, destination, context.id, own=own, translated=outbound.translation is not None
        ),
        body=outbound.body,
        patience=destination.patience,
    )
