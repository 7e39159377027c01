"""The operator's model policy, applied to one request: aliases, contexts, keep-alives, fallbacks."""

from __future__ import annotations

from msgspec.structs import replace

from ollama_router_core.access.grants import may_unload
from ollama_router_core.api.endpoints import Routing
from ollama_router_core.api.model_names import is_cloud_name
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import Forbidden, InvalidHeader
from ollama_router_core.exchange.access import check_granted_model, check_hosted
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.reaching import check_reach, without_hosted_tools
from ollama_router_core.routing.policy import apply_policy, fallback_for, stays_local
from ollama_router_core.routing.selector import assigned_destination

__all__ = ["applied_policy", "stand_in"]

_ABOUT_ONE_MODEL = frozenset({Routing.ONE, Routing.COUNT, Routing.RERANK})


def applied_policy(environment: Environment, context: RequestContext, request: ParsedRequest) -> ParsedRequest:
    """Apply the policy: return the request as it will be sent.

    Raises:
        InvalidHeader: it is pinned to an unknown server.
        Forbidden: the user may not pin a server, or a `local_only` model would leave the operator's servers.
    """
    context.route = request.route
    if request.endpoint.routing not in _ABOUT_ONE_MODEL or request.route.model is None:
        return request
    request = _with_policy(environment, context, _pinned(environment, context, request))
    return _with_learned_tokens(environment, context, request)


def _pinned(environment: Environment, context: RequestContext, request: ParsedRequest) -> ParsedRequest:
    """Pin the request to the server in `X-Router-Pin`, if any.

    Raises:
        Forbidden: the user is no admin.
        InvalidHeader: the server is unknown or disabled.
    """
    name = context.header(b"x-router-pin")
    if name is None or request.route.pin is not None:
        return request
    if context.user is not None and context.user.role != "admin":
        raise Forbidden("X-Router-Pin: only admins may name the server that answers")
    server = environment.config.servers.get(name)
    if server is None or not server.enabled:
        raise InvalidHeader(f"X-Router-Pin names {name[:100]!r}, which is not an enabled server")
    context.changes = (*context.changes, f"pinned to {name}")
    request = replace(request, route=replace(request.route, pin=name))
    context.route = request.route
    return request


def _with_learned_tokens(environment: Environment, context: RequestContext, request: ParsedRequest) -> ParsedRequest:
    """Set the prompt tokens to the count learned for this model, if there is one."""
    model = request.route.model
    tokens = None if model is None else environment.fleet.prompts.tokens(model, request.route.prompt)
    if tokens is None:
        return request
    request = replace(request, route=replace(request.route, prompt_tokens=tokens))
    context.route = request.route
    return request


def _with_policy(environment: Environment, context: RequestContext, request: ParsedRequest) -> ParsedRequest:
    settings = environment.config.models
    if settings.aliases or settings.rules:
        applied = apply_policy(request, settings)
        if applied.changes:
            context.asked = context.asked or request.route.model_text
            context.changes = (*context.changes, *applied.changes)
            context.dropped = (*context.dropped, *(f"noise.{name}" for name in applied.dropped))
            request = applied.request
            context.route = request.route
    _check_stays_local(environment, request)
    hosts = environment.config.external_hosts
    host = hosts.get(assigned_destination(request.route, environment.config) or "") if hosts else None
    if host is not None:
        check_reach(environment, context, request, host)
        return request
    return without_hosted_tools(environment, context, _without_unload(environment, context, request))


def stand_in(environment: Environment, context: RequestContext, request: ParsedRequest) -> ParsedRequest | None:
    """Return the request for the fallback model; None without one, or if the user may not use it.

    The context then describes the fallback.
    """
    model = request.route.model
    name = None if model is None or context.fallback is not None else fallback_for(model, environment.config.models)
    if name is None:
        return None
    before = context.route, context.asked, context.changes
    context.asked = context.asked or request.route.model_text
    context.changes = (*context.changes, f"{name} stands in for {request.route.model_text}")
    try:
        instead = applied_policy(environment, context, request.with_model(name))
        check_granted_model(context)
        check_hosted(environment, context, instead)
    except Forbidden:
        context.route, context.asked, context.changes = before
        return None
    context.fallback = name
    return instead


def _without_unload(environment: Environment, context: RequestContext, request: ParsedRequest) -> ParsedRequest:
    """Drop a `keep_alive` that would unload a model, if the user may not unload: other users may be using the model.

    Raises:
        Forbidden: unloading is all that the request does.
    """
    user = context.user
    if request.route.keeps_model or user is None or may_unload(user.role, user.grants, alone=environment.alone()):
        return request
    if request.route.unloads or request.document is None:
        raise Forbidden("keep_alive: this user may not unload models that others use; an administrator can allow it")
    context.changes = (*context.changes, "keep_alive left out, because unloading is not granted")
    return request.edited({"keep_alive": "null"})


def _check_stays_local(environment: Environment, request: ParsedRequest) -> None:
    model, settings = request.route.model, environment.config.models
    if not settings.local_only or model is None or not stays_local(model, settings):
        return
    if is_cloud_name(request.route.model_text or "") or environment.fleet.is_stub(model):
        raise Forbidden(f"{request.route.model_text} must stay on the operator's own servers (local_only)")
