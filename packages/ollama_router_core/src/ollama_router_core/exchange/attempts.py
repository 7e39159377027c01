"""Attempts along the ranking: send, classify the outcome, try the next server."""

from __future__ import annotations

from functools import partial

from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import (
    ConnectFailed,
    UpstreamDisconnected,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from ollama_router_core.exchange.actions import AwaitSlot, Outgoing, Release, Steps
from ollama_router_core.exchange.asking import open_upstream
from ollama_router_core.exchange.computing import computed
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Preempted, Refused, Upstream
from ollama_router_core.exchange.feedback import note_fault, note_sent
from ollama_router_core.exchange.heartbeat import StreamHeartbeat, heartbeat_for
from ollama_router_core.exchange.key_redaction import redactor_for
from ollama_router_core.exchange.server_slot import ServerSlot
from ollama_router_core.exchange.upstream_answer import Answer, look_at, release
from ollama_router_core.fleet.health import BreakerPermit
from ollama_router_core.fleet.stalls import Wait
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.outbound.header_fields import request_fields
from ollama_router_core.outbound.sending import Outbound, prepare, work_of
from ollama_router_core.responses.server_faults import TELLING, FaultKind, read_fault
from ollama_router_core.routing.forwarding import (
    Answered,
    Broken,
    GiveUp,
    Lost,
    Outcome,
    Relay,
    Unable,
    Unreachable,
    forward,
    outcome_of_status,
)
from ollama_router_core.translate import REFUSING_STATUSES, refused_member

__all__ = ["forward_request"]

_INFER = Kind.INFER


def forward_request(
    environment: Environment, context: RequestContext, request: ParsedRequest, slot: ServerSlot
) -> Steps[Answer]:
    """Try the servers of the ranking until one answers.

    Raises:
        RouterError: no server answered; the client gets this error.
        Preempted: another request needs the slot.
    """
    heartbeat, before = heartbeat_for(environment, context, request), context.attempts
    steps = forward(slot.decision.ranking, may_retry=slot.may_retry)
    step = next(steps)
    while True:
        context.server, context.attempts, context.last_wait = step.server, before + step.attempt, None
        destination = environment.destinations[step.server]
        outcome, answer = yield from _try(environment, context, request, slot, destination, heartbeat)
        if not isinstance(outcome, Answered):
            context.attempt_failed(step.server, outcome, environment.now())
        try:
            step = steps.send(outcome)
        except StopIteration as stop:
            return (yield from _answer_or_raise(environment, context, stop.value, answer))
        if answer is not None:
            yield from release(environment, context, answer)


def _answer_or_raise(
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
    slot: ServerSlot,
    destination: Destination,
    heartbeat: StreamHeartbeat | None,
) -> Steps[tuple[Outcome, Answer | None]]:
    queued = slot.move(destination.name)
    if queued is not None and isinstance((yield AwaitSlot(queued)), Refused):
        return Unreachable(ConnectFailed(f"{destination.name} has no slot free"), 0.0), None
    permit = slot.permit(destination.name)
    if permit is None:
        alone = ConnectFailed(f"{destination.name} is suspended after repeated failures")
        return Unreachable(alone, 0.0), None
    if request.endpoint.kind is not _INFER:
        permit.spare_model()
    started = environment.now()
    try:
        answer = yield from _answer(environment, context, request, slot, destination, heartbeat)
        context.reached = started + answer.upstream.connect_seconds
        if destination.learns and (yield from _learn_refusal(environment, context, answer)):
            answer = yield from _answer(environment, context, request, slot, destination, heartbeat)
        answer.permit = permit
        return (yield from _classify(environment, context, request, answer, permit)), answer
    except UpstreamError as error:
        repeatable = _is_repeatable(request, destination)
        return _failed(environment, context, permit, error, started, repeatable=repeatable), None
    except BaseException as reason:
        if isinstance(reason, Preempted) and context.observer is not None:
            context.observer.failed("preempted")
        permit.left()
        raise


def _is_repeatable(request: ParsedRequest, destination: Destination) -> bool:
    """Whether a request may be resent after this destination lost it."""
    return destination.cancels_on_disconnect or request.endpoint.kind is Kind.READ


def _answer(
    environment: Environment,
    context: RequestContext,
    request: ParsedRequest,
    slot: ServerSlot,
    destination: Destination,
    heartbeat: StreamHeartbeat | None,
) -> Steps[Answer]:
    """Send the request, and wait for the response head.

    Raises:
        UpstreamError: it does not arrive.
        Preempted: another request needs the slot.
    """
    recall = environment.thoughts.recall(context.user_id)
    without = _known_refusals(environment, request, destination) if destination.learns else ()
    preparing = partial(prepare, request, destination, recall, without=without)
    outbound = yield from computed(work_of(request, destination), preparing)
    context.changed = outbound.dropped
    now = environment.now()
    sent = note_sent(environment.fleet, destination.name, request, now, context.conversation)
    context.last_wait = Wait(destination.name, request.route, now, sent.beside)
    outgoing = _outgoing(context, destination, outbound, slot, repeatable=_is_repeatable(request, destination))
    upstream = yield from _head(context, outgoing, heartbeat)
    answer = Answer(destination, upstream, None, sent, outbound.translation, redactor_for(destination))
    answer.counts_unasked, answer.heartbeat, answer.retry = outbound.asks_for_usage, heartbeat, outbound.retry
    if destination.learns:
        answer.asked = outbound
    return answer


def _known_refusals(environment: Environment, request: ParsedRequest, destination: Destination) -> tuple[str, ...]:
    """Return the members that the host has refused for this model."""
    return environment.refusals.members(destination.name, destination.model_there(request.route.model_text or ""))


def _learn_refusal(environment: Environment, context: RequestContext, answer: Answer) -> Steps[bool]:
    """Learn an optional member that the host refuses and release the response; False if there is none.

    Raises:
        UpstreamError: the error body was cut off.
    """
    asked, name = answer.asked, answer.destination.name
    if asked is None or asked.model is None or answer.status not in REFUSING_STATUSES or context.head_written:
        return False
    body = yield from look_at(answer)
    member = refused_member(answer.status, body, asked.members)
    if member is None or not environment.refusals.learn(name, asked.model, member):
        return False
    context.changes = (*context.changes, f"{member} left out because {name} refuses it for {asked.model}")
    yield Release((answer.upstream,))
    return True


def _classify(
    environment: Environment, context: RequestContext, request: ParsedRequest, answer: Answer, permit: BreakerPermit
) -> Steps[Outcome]:
    """Classify a response for the breaker and for retries, by its status and, if that is ambiguous, its error text.

    Raises:
        UpstreamError: the error body was cut off.
    """
    status = answer.status
    if context.observer is not None:
        context.observer.answered(status)
    fault = None
    if status in TELLING and not answer.destination.external:
        body = yield from look_at(answer)
        capable = status == 400 and environment.fleet.writes_text(request.route.model)
        fault = read_fault(status, body, streamed=request.route.stream, capable=capable)
    if fault is None:
        permit.head(status, environment.now())
        return outcome_of_status(status)
    note_fault(environment, answer.destination.name, request, fault)
    if fault.kind is FaultKind.NO_ROUTE:
        permit.done(environment.now())
    else:
        permit.unable(fault.words, environment.now(), at_once=fault.nothing_ran)
    return Unable(status, fault.words) if fault.nothing_ran else outcome_of_status(status)


def _head(context: RequestContext, request: Outgoing, heartbeat: StreamHeartbeat | None) -> Steps[Upstream]:
    """Send, and wait for the response head, with heartbeats for the client if it gets any."""
    if heartbeat is None:
        return open_upstream(request)
    return open_upstream(request, interval=heartbeat.interval, beat=partial(heartbeat.beat, context))


def _failed(
    environment: Environment,
    context: RequestContext,
    permit: BreakerPermit,
    error: UpstreamError,
    started: float,
    *,
    repeatable: bool,
) -> Outcome:
    if context.observer is not None:
        context.observer.failed(error.code)
    now = environment.now()
    if isinstance(error, ConnectFailed):
        permit.failed(now, refused=True)
        environment.fleet.refresh_soon(permit.server)
        return Unreachable(error, now - started)
    permit.failed(now)
    return Lost(error) if repeatable and _ended_before_response(error) else Broken(error)


def _ended_before_response(error: UpstreamError) -> bool:
    """Whether the exchange ended before the response began; a plain timeout may be a slow server and does not count."""
    return isinstance(error, UpstreamDisconnected) or (isinstance(error, UpstreamTimeout) and error.phase == "probe")


def _outgoing(
    context: RequestContext, destination: Destination, outbound: Outbound, slot: ServerSlot, *, repeatable: bool
) -> Outgoing:
    own = outbound.headers
    if context.observer is not None:
        own = (*own, *context.observer.sending(context, destination.name))
    return Outgoing(
        destination=destination,
        method=context.method,
        target=outbound.target,
        fields=request_fields(
            context.headers,
            destination,
            context.id,
            own=own,
            defaults=outbound.defaults,
            translated=outbound.translation is not None,
        ),
        body=outbound.body,
        patience=destination.patience,
        repeatable=repeatable,
        preemption=slot.preemption,
    )
