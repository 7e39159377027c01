"""Prompt token counts: from the host that serves the model, else estimated by the router."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial

from ollama_router_core.access.grants import check_host
from ollama_router_core.api.ollama_errors import model_not_found
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import RouterError
from ollama_router_core.exchange.actions import LookForModels, Outgoing, Steps
from ollama_router_core.exchange.answers import JSON_UTF8, answer_for, answer_whole
from ollama_router_core.exchange.applied_policy import stand_in
from ollama_router_core.exchange.asking import Reply, ask_all
from ollama_router_core.exchange.computing import computed
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.outbound.header_fields import request_fields
from ollama_router_core.outbound.sending import prepare
from ollama_router_core.routing.model_placement import owners
from ollama_router_core.routing.selector import assigned_destination
from ollama_router_core.translate import codec_of

__all__ = ["count_prompt"]

_WAIT = 10.0
"""Seconds until a host must answer with a count; agents ask before each turn."""
_CANNOT_COUNT = frozenset({404, 405, 501})
_SHAPES: Mapping[str, Callable[[int], Mapping[str, object]]] = {
    "anthropic_count_tokens": lambda tokens: {"input_tokens": tokens},
    "openai_input_tokens": lambda tokens: {"object": "response.input_tokens", "input_tokens": tokens},
}


def count_prompt(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Answer `count_tokens` and `input_tokens`; an estimate carries `X-Router-Estimate`.

    Raises:
        ModelNotFound: no server has the model.
        Forbidden: the user may not use its host.
    """
    assigned = assigned_destination(request.route, environment.config)
    destination = environment.destinations.get(assigned or "")
    if destination is not None and destination.external:
        reply = yield from _count_at_host(environment, context, request, destination)
        if reply is not None:
            context.server = destination.name
            yield from answer_for(context, reply.body, JSON_UTF8, status=reply.status)
            return
    elif assigned is None:
        request = yield from _find_model(environment, context, request)
    yield from _estimate(environment, context, request)


def _count_at_host(
    environment: Environment, context: RequestContext, request: ParsedRequest, destination: Destination
) -> Steps[Reply | None]:
    """Ask an external host for the count; None if it cannot count or does not answer."""
    user = context.user
    if user is not None:
        check_host(user.role, user.grants, environment.config.external_hosts_for, destination.name)
    if not codec_of(destination.family).serves(request.endpoint, destination.traits):
        return None
    outbound = yield from computed(len(request.body), partial(prepare, request, destination))
    outgoing = Outgoing(
        destination=destination,
        method="POST",
        target=outbound.target,
        fields=request_fields(context.headers, destination, context.id, own=outbound.headers),
        body=outbound.body,
        patience=destination.patience,
        repeatable=True,
    )
    (reply,) = yield from ask_all(environment, (outgoing,), seconds=_WAIT)
    if isinstance(reply, RouterError) or reply.status in _CANNOT_COUNT or reply.status >= 500:
        return None
    return Reply(status=reply.status, headers=(), body=destination.redact(reply.body))


def _find_model(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[ParsedRequest]:
    """Look for the request's model; return the request, or the one for the fallback model.

    Raises:
        ModelNotFound: no server has either.
    """
    if _is_known(environment, request) or ((yield LookForModels()) and _is_known(environment, request)):
        return request
    instead = stand_in(environment, context, request)
    if instead is None:
        raise model_not_found(request.endpoint.name, request.route.model_text or "")
    return instead


def _is_known(environment: Environment, request: ParsedRequest) -> bool:
    snapshot = environment.fleet.snapshot
    unasked = any(facts.installed is None for facts in snapshot.servers.values())
    return unasked or request.route.uses_cloud or bool(owners(snapshot, request.route.model))


def _estimate(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    model = request.route.model
    samples = 0 if model is None else environment.fleet.prompts.samples(model)
    shape = _SHAPES[request.endpoint.name](request.route.prompt_tokens)
    fields = [(b"x-router-estimate", b"samples=%d" % samples)]
    yield from answer_whole(context, json.dumps(shape).encode(), JSON_UTF8, fields=fields)
