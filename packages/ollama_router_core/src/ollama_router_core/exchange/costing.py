"""The cost of a request at its last destination."""

from __future__ import annotations

from ollama_router_core.api.endpoints import Kind
from ollama_router_core.errors import ConnectFailed
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.records.costs import NO_COSTS, Costs, computed_ms, cost_micros
from ollama_router_core.responses.usage import Usage

__all__ = ["costs_of"]


def costs_of(environment: Environment, context: RequestContext, now: float) -> Costs:
    """Compute the cost of the request so far; none if no server computed anything."""
    wait, endpoint = context.last_wait, context.endpoint
    if wait is None or endpoint is None or endpoint.kind is not Kind.INFER or isinstance(context.error, ConnectFailed):
        return NO_COSTS
    destination = environment.destinations.get(wait.server)
    if destination is None:
        return NO_COSTS
    if destination.external:
        return _host_costs(destination, context)
    started = wait.since if context.reached is None else max(wait.since, context.reached)
    usage = Usage() if context.usage is None else context.usage.usage
    durations = (usage.load_duration, usage.prompt_eval_duration, usage.eval_duration)
    return Costs(gpu_ms=computed_ms((now - started) * 1000, *[None if ns is None else ns / 1e6 for ns in durations]))


def _host_costs(destination: Destination, context: RequestContext) -> Costs:
    price = destination.price_of("" if context.route is None else context.route.model_text or "")
    if price is None:
        return NO_COSTS
    tokens = context.tokens
    return Costs(cost_micros=cost_micros(price, tokens.prompt, tokens.completion))
