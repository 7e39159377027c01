"""Authorization of one request, and its count against the user's limits."""

from __future__ import annotations

from ollama_router_core.access.grants import (
    check_any_model,
    check_cloud,
    check_endpoint,
    check_expiry,
    check_host,
    check_model,
    check_network,
    may_use_host,
)
from ollama_router_core.access.limits import estimate_tokens, has_limits
from ollama_router_core.api.endpoints import Endpoint, Kind
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.exchange.actions import AwaitCharge, Charge, Count, Steps
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment, Limits
from ollama_router_core.exchange.events import Caller
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.selector import assigned_destination

__all__ = [
    "charge",
    "charged",
    "check_granted_model",
    "check_hosted",
    "check_route",
    "count",
    "granted_ranking",
    "is_counted",
]


def check_route(user: Caller, endpoint: Endpoint, address: str | None, *, wall: float) -> None:
    """Check expiry, network, endpoint and model grants before the body is read.

    Raises:
        Forbidden: the user may not use this route from this address at this time.
    """
    check_expiry(user.grants, wall)
    check_network(user.grants, address)
    check_endpoint(user.role, endpoint, user.grants)
    if endpoint.model_keys:
        check_any_model(user.grants)


def check_granted_model(context: RequestContext) -> None:
    """Check the model that the request names.

    Raises:
        Forbidden: the user may not use the model.
    """
    if context.user is not None and context.route is not None and context.route.model_text is not None:
        check_model(context.user.grants, context.route.model_text)


def check_hosted(environment: Environment, context: RequestContext, request: ParsedRequest) -> None:
    """Check a request that a server would forward to ollama.com because of its model name, its tools or a stub model.

    Models that the config assigns to an external host are exempt, and a stub may be deleted.

    Raises:
        Forbidden: the user lacks the permission.
    """
    user, model = context.user, request.route.model
    if user is None or request.endpoint.name == "delete":
        return
    if not request.route.uses_cloud and (model is None or not environment.fleet.is_stub(model)):
        return
    config = environment.config
    if assigned_destination(request.route, config) not in config.external_hosts:
        check_cloud(user.role, user.grants, config.cloud, request.route.model_text or request.endpoint.path)


def granted_ranking(environment: Environment, user: Caller, decision: Decision) -> Decision:
    """Drop from a decision the external hosts that the user may not use.

    Raises:
        Forbidden: no destination is left.
    """
    role, grants, rule = user.role, user.grants, environment.config.external_hosts_for
    if (grants.hosts is None and rule == "all") or not decision.ranking:
        return decision
    destinations = environment.destinations
    kept = tuple(
        name for name in decision.ranking if not destinations[name].external or may_use_host(role, grants, rule, name)
    )
    if not kept:
        check_host(role, grants, rule, decision.ranking[0])
    return decision if kept == decision.ranking else decision.among(kept)


def is_counted(user: Caller, endpoint: Endpoint) -> bool:
    """Whether a request counts against its user's limits. Read endpoints do not count."""
    return endpoint.kind is not Kind.READ and has_limits(user.grants)


def count(context: RequestContext, limits: Limits, user: Caller) -> Steps[None]:
    """Count the request against its user's limits, until it ends.

    This precedes the body, so that a request over a limit costs no reading, decompression or parsing.

    Raises:
        LimitExceeded: a limit is used up.
        StorageUnavailable: earlier usage cannot be read.
    """
    try:
        context.reservation = yield Count(user)
    finally:
        context.standing = limits.standing(user)


def charge(environment: Environment, context: RequestContext) -> Steps[None]:
    """Charge the request's estimated tokens once its body is parsed; `charged` awaits a pending charge.

    Raises:
        LimitExceeded: the remaining tokens do not suffice, or concurrent requests used them up.
    """
    endpoint, route, limits = context.endpoint, context.route, environment.limits
    if context.reservation is None or endpoint is None or route is None or limits is None or context.user is None:
        return
    if endpoint.counts_usage:
        try:
            known = yield Charge(context.reservation, estimate_tokens(route.prompt_tokens, route.max_tokens))
            context.charging = not known
        finally:
            context.standing = limits.standing(context.user)


def charged(environment: Environment, context: RequestContext) -> Steps[None]:
    """Await a charge that other routers have to confirm, before anything is sent or answered.

    Raises:
        LimitExceeded: as `charge`.
    """
    reservation, limits, user = context.reservation, environment.limits, context.user
    if not context.charging or reservation is None or limits is None or user is None:
        return
    context.charging = False
    try:
        yield AwaitCharge(reservation)
    finally:
        context.standing = limits.standing(user)
