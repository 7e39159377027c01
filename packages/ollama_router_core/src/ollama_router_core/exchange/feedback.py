"""Facts learned from traffic: model loads, missing models, server speed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.fleet.clocked_fleet import ClockedFleet
from ollama_router_core.fleet.observations import forget_model, observe_unloaded
from ollama_router_core.fleet.runners import load_of
from ollama_router_core.fleet.snapshot import EMPTY
from ollama_router_core.fleet.traffic import inferred_model, observe_answered, sample_of, shows_nothing_new
from ollama_router_core.responses.server_faults import Fault, FaultKind
from ollama_router_core.responses.usage import Usage

__all__ = ["Sent", "note_answered", "note_fault", "note_finished", "note_sent"]


class Sent(Struct, frozen=True):
    """The state of a server when a request was sent, at `at`; `loads` if the request started the only load there.

    `running` counts the requests in flight, this one included; `beside` has them by model if there are others;
    `ahead` counts the others on the model's runner; `prompt_held` if the server was expected to hold the conversation.
    """

    server: str
    model: CanonicalName | None
    loads: bool
    running: int
    ahead: int = 0
    at: float = 0.0
    prompt_held: bool = False
    beside: Mapping[CanonicalName, int] = EMPTY


def note_sent(
    fleet: ClockedFleet, server: str, request: ParsedRequest, now: float, conversation: int | None = None
) -> Sent:
    """Record a sent request: a model that is not in memory counts as loading."""
    model = inferred_model(request)
    if model is None:
        return Sent(server, None, loads=False, running=0)
    loads = fleet.sent(server, model, load_of(request.route))
    running = fleet.running(server)
    ahead = fleet.running_for(server, model) - 1 if running > 1 else 0
    held = None if conversation is None else fleet.prefixes.of(conversation)
    beside = fleet.beside(server) if running > 1 else EMPTY
    return Sent(server, model, loads, running, ahead, now, held is not None and held.server == server, beside)


def note_answered(environment: Environment, server: str, request: ParsedRequest, status: int) -> None:
    """Record a response head: the model is in memory, or unloaded."""
    if request.route.model is None or request.endpoint.kind is not Kind.INFER:
        return
    fleet = environment.fleet
    facts = fleet.servers.get(server)
    settings = environment.config.servers.get(server)
    default = None if settings is None else settings.default_context
    if facts is None or shows_nothing_new(facts, request, status, default):
        return
    change = partial(observe_answered, request=request, status=status, now=environment.now(), default_context=default)
    if fleet.update(server, change) and inferred_model(request) is not None and status == 200:
        fleet.measure_soon(server)


def note_fault(environment: Environment, server: str, request: ParsedRequest, fault: Fault) -> None:
    """Record why a server could not serve a model: no route, not installed, or not in memory."""
    model, fleet = request.route.model, environment.fleet
    if fault.kind is FaultKind.NO_ROUTE and request.route.versions is not None:
        path = request.endpoint.path
        fleet.update(server, lambda facts: replace(facts, missing_routes=facts.missing_routes | {path}))
    if model is None or fault.kind is FaultKind.NO_ROUTE:
        return
    if fault.kind is FaultKind.NO_MODEL:
        fleet.update(server, partial(forget_model, name=model, now=environment.now()))
        fleet.refresh_soon(server)
    elif inferred_model(request) is not None and fault.kind is FaultKind.NOT_LOADED:
        fleet.update(server, partial(observe_unloaded, name=model, now=environment.now()))
        fleet.measure_soon(server)


def note_finished(fleet: ClockedFleet, sent: Sent, context: RequestContext, now: float) -> None:
    """Learn speed, prompt size and cache contents from the metrics of a complete response."""
    if sent.model is None or context.usage is None:
        return
    usage = context.usage.usage
    if context.conversation is not None:
        if usage.cached_tokens is not None:
            fleet.was_cached(context.conversation, sent.server, usage.cached_tokens)
        fleet.holds(sent.server, sent.model, context.conversation, _held_tokens(context, usage))
    if context.route is not None and usage.prompt_tokens and usage.finished:
        fleet.learn_prompt(sent.model, context.route.prompt, usage.prompt_tokens)
    beside = (sent.running + fleet.running(sent.server)) / 2 - 1
    sample = sample_of(
        usage,
        loaded=sent.loads,
        prompt_held=sent.prompt_held,
        neighbours=beside,
        seconds=now - sent.at,
        ahead=sent.ahead,
    )
    if sample is not None:
        fleet.learn(sent.server, sent.model, sample)


def _held_tokens(context: RequestContext, usage: Usage) -> int:
    """Sum prompt and completion tokens.

    Some versions count only the uncached part of a prompt, so the estimated prompt length is a lower bound.
    """
    length = 0 if context.route is None else context.route.prompt_tokens
    return max(usage.prompt_tokens or 0, length) + (usage.completion_tokens or 0)
