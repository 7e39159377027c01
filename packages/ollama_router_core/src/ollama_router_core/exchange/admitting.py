"""Gets a slot for a request: waits in the queue, looks for a missing model, and falls back to a stand-in model."""

from __future__ import annotations

import json

from ollama_router_core.api.ollama_errors import model_incapable, model_not_found
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import ModelIncapable, ModelNotFound, NoServerFits, RouterError, SelectionError
from ollama_router_core.exchange.access import charged, granted_ranking
from ollama_router_core.exchange.actions import Admit, AwaitSlot, LookForModels, Steps
from ollama_router_core.exchange.applied_policy import stand_in
from ollama_router_core.exchange.asking import Reply, ask_all, own_request
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import Queued, Refused
from ollama_router_core.exchange.heartbeat import heartbeat_for
from ollama_router_core.exchange.server_slot import ServerSlot
from ollama_router_core.exchange.waiting import waiting_of
from ollama_router_core.fleet.prefixes import conversation_of
from ollama_router_core.responses.several_servers import names_of
from ollama_router_core.routing.kept_decisions import kept_decision
from ollama_router_core.routing.strategies import STRATEGIES
from ollama_router_core.translate import QueuePlace

__all__ = ["admit", "admit_again", "free_memory"]

_LONGEST_RETRY_AFTER = 30.0


def admit(
    environment: Environment, context: RequestContext, request: ParsedRequest
) -> Steps[tuple[ParsedRequest, ServerSlot]]:
    """Get a slot on a server; return the request, rewritten for the fallback model if its own cannot be served.

    Raises:
        RouterError: no server can take it, the queue is full, the wait timed out, or the user lacks the grant.
    """
    try:
        slot = yield from _find_slot(environment, context, request)
    except SelectionError:
        instead = stand_in(environment, context, request)
        if instead is None:
            raise
        request = instead
        slot = yield from _find_slot(environment, context, request)
    return request, slot


def _find_slot(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[ServerSlot]:
    """Get a slot; refresh the model lists once before reporting a model as missing."""
    try:
        return (yield from _request_slot(environment, context, request))
    except ModelNotFound:
        if not (yield LookForModels()):
            raise
    return (yield from _request_slot(environment, context, request))


def _record_slot(environment: Environment, context: RequestContext, slot: ServerSlot) -> ServerSlot:
    """Record the slot, and restrict its ranking to destinations that the user may use."""
    context.decision, context.decided = slot.decision, environment.now()
    if context.queue_position is None and slot.position:
        context.queue_position = slot.position
    unusual = context.queue_position is not None or context.fallback is not None
    if unusual or not slot.decision.explanation.is_routine:
        context.kept_decision = kept_decision(slot.decision)  # now: the facts behind it will change
    if context.user is not None:
        try:
            slot.decision = granted_ranking(environment, context.user, slot.decision)
        except BaseException:
            slot.close()
            raise
    return slot


def _request_slot(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[ServerSlot]:
    """Request admission, and wait in the queue if necessary."""
    user = "" if context.user is None else context.user.name
    if STRATEGIES[environment.config.routing_strategy].uses_prefixes:
        context.conversation = conversation_of(request, user, environment.key)
    waiting = waiting_of(environment.config, context)
    outcome: ServerSlot | Queued | Refused = yield Admit(request, user, context.conversation, waiting)
    if context.charging:
        yield from _await_charge(environment, context, outcome)
    if isinstance(outcome, Queued):
        if outcome.position is not None:
            context.queue_position, context.expected_wait_ms = outcome.position, outcome.expected_wait * 1000
        outcome = yield from _wait(environment, context, request, outcome)
    return _record_slot(environment, context, _slot_or_raise(environment, context, request, outcome))


def _await_charge(
    environment: Environment, context: RequestContext, outcome: ServerSlot | Queued | Refused
) -> Steps[None]:
    """Await the token charge after admission, as one message to other routers carries both."""
    try:
        yield from charged(environment, context)
    except BaseException:
        match outcome:
            case Queued():
                outcome.leave()
            case Refused():
                pass
            case _:
                outcome.close()
        raise


def _slot_or_raise(
    environment: Environment, context: RequestContext, request: ParsedRequest, outcome: ServerSlot | Refused
) -> ServerSlot:
    if isinstance(outcome, Refused):
        context.decision = outcome.decision or context.decision
        raise _client_error(environment, request, outcome.error)
    return outcome


def admit_again(
    environment: Environment, context: RequestContext, request: ParsedRequest, queued: Queued
) -> Steps[ServerSlot]:
    """Get another slot for a preempted request.

    Raises:
        RouterError: no server can take it any more, or the wait timed out.
    """
    _record_queued(context, queued)
    outcome = yield from _wait(environment, context, request, queued)
    return _record_slot(environment, context, _slot_or_raise(environment, context, request, outcome))


def _record_queued(context: RequestContext, queued: Queued) -> None:
    """Record the position and expected wait with which the request first joined the queue."""
    if context.queue_position is None and queued.position:
        context.queue_position, context.expected_wait_ms = queued.position, queued.expected_wait * 1000


def _wait(
    environment: Environment, context: RequestContext, request: ParsedRequest, queued: Queued
) -> Steps[ServerSlot | Refused]:
    """Wait in the queue; a stream gets its position with each heartbeat.

    A request whose slot claim is denied joins the queue during the wait, and is logged as queued.
    """
    heartbeat = heartbeat_for(environment, context, request)
    seconds = None if heartbeat is None else heartbeat.interval
    while True:
        outcome: ServerSlot | Queued | Refused = yield AwaitSlot(queued, seconds)
        if not isinstance(outcome, Queued):
            return outcome
        has_joined = bool(outcome.position and not queued.position)
        queued = outcome
        if has_joined:
            _record_queued(context, queued)
        elif heartbeat is not None:
            place = QueuePlace(queued.position, queued.expected_wait) if queued.position else None
            try:
                yield from heartbeat.beat(context, place)
            except BaseException:
                queued.leave()
                raise


def free_memory(environment: Environment, slot: ServerSlot) -> Steps[None]:
    """Unload models to make room on the slot's server; after a failure, leave eviction to the server."""
    for model in slot.unload:
        facts = environment.fleet.servers.get(slot.server)
        installed = None if facts is None or facts.installed is None else facts.installed.get(model)
        name = installed.spelling if installed else model
        body = json.dumps({"model": name, "keep_alive": 0}).encode()
        request = own_request(environment, slot.server, "POST", "/api/generate", body=body)
        (reply,) = yield from ask_all(environment, (request,))
        if not isinstance(reply, Reply) or not reply.ok:
            return
        environment.fleet.evicted(slot.server, model)


def _client_error(environment: Environment, request: ParsedRequest, error: RouterError) -> RouterError:
    """Word the error for the client: Ollama's text for a missing model or capability, a retry time otherwise."""
    environment.fleet.refresh_unknown(request.route.model)
    if isinstance(error, ModelNotFound):
        missing = model_not_found(request.endpoint.name, request.route.model_text or "")
        if error.unasked:
            return type(missing)(f"{missing.message} ({names_of(error.unasked)} could not be queried)")
        return missing
    if isinstance(error, ModelIncapable):
        return model_incapable(request.endpoint.name, request.route.model_text or "", error.missing)
    after = environment.fleet.retry_after()
    if isinstance(error, NoServerFits) and after is not None:
        error.retry_after = min(_LONGEST_RETRY_AFTER, max(1.0, after))
    return error
