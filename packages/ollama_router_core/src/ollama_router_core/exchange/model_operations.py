"""Operations on models, on one server or several: delete, copy, push, unload, pull, create."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ollama_router_core.api.endpoints import Kind
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.ollama_errors import model_not_found
from ollama_router_core.api.requests import ParsedRequest, RouteRequest
from ollama_router_core.errors import Forbidden, InvalidTarget, NoServerFits, PartlyDone, RouterError
from ollama_router_core.exchange.actions import Steps
from ollama_router_core.exchange.answers import answer_for
from ollama_router_core.exchange.asking import Order, Reply, ask_all, open_upstream
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.fan_out import ask_fleet
from ollama_router_core.exchange.key_redaction import redactor_for
from ollama_router_core.exchange.merged_progress import merge_progress
from ollama_router_core.exchange.relaying import relay
from ollama_router_core.exchange.upstream_answer import Answer, release
from ollama_router_core.fleet.observations import observe_unloaded
from ollama_router_core.responses.several_servers import failed_on
from ollama_router_core.routing.model_placement import (
    Named,
    Target,
    Unsaid,
    differing_digests,
    loaded_on,
    owners,
    read_target,
    servers_by_priority,
    servers_for_target,
)

__all__ = [
    "change_owners",
    "make",
    "pass_on",
    "pull",
    "push",
    "serve_account",
    "sized_as",
    "target_of",
    "unload",
    "up_servers",
]

_PATIENT = frozenset({"pull", "create", "push"})

Replies = Mapping[str, Reply | RouterError]


# --- on the servers that have the model -------------------------------------------------------------------------------


def change_owners(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Delete or copy on every server that has the model, or on the client's targets.

    Raises:
        RouterError: no server has the model, a target is unknown, or a server failed.
    """
    yield from ask_fleet(environment, "/api/tags")
    names = _owners(environment, context, request)
    replies = yield from _ask(environment, context, request, names)
    for name in names:
        environment.fleet.refresh_soon(name)
    environment.models_changed()
    yield from _conclude(context, request, replies)


def push(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Push from one server that has the model, if its digest is the same on all.

    Raises:
        RouterError: no server has the model, it differs between servers, or the server failed.
    """
    yield from ask_fleet(environment, "/api/tags")
    names = _owners(environment, context, request)
    yield from pass_on(environment, context, request, _one_source(environment, request, names), _order(request))


def unload(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Unload a model on every server that has it in memory.

    Raises:
        RouterError: no server has the model, or a server failed.
    """
    yield from ask_fleet(environment, "/api/ps")
    fleet, model = environment.fleet, request.route.model
    names = loaded_on(fleet.snapshot, model) or _up_among(environment, owners(fleet.snapshot, model))[:1]
    if not names:
        raise model_not_found(request.endpoint.name, request.route.model_text or "")
    replies = yield from _ask(environment, context, request, names)
    for name, reply in replies.items():
        if isinstance(reply, Reply) and reply.ok and model is not None:
            fleet.update(name, partial(observe_unloaded, name=model, now=environment.now()))
    yield from _conclude(context, request, replies)


def _owners(environment: Environment, context: RequestContext, request: ParsedRequest) -> tuple[str, ...]:
    target = target_of(environment, context)
    if isinstance(target, Named):
        return target.servers
    names = owners(environment.fleet.snapshot, request.route.model)
    if not names:
        raise model_not_found(request.endpoint.name, request.route.model_text or "")
    return names


def _one_source(environment: Environment, request: ParsedRequest, names: tuple[str, ...]) -> str:
    model, text = request.route.model, request.route.model_text
    digests = {} if model is None else differing_digests(environment.fleet.snapshot).get(model, {})
    if len(names) > 1 and digests:
        apart = "; ".join(f"{digest[:12]} on {', '.join(servers)}" for digest, servers in digests.items())
        raise InvalidTarget(f"{text} differs between servers ({apart}): name one server in X-Router-Target")
    up = _up_among(environment, names)
    if not up:
        raise NoServerFits(f"{text} is on {', '.join(names)}, which cannot be reached now")
    return up[0]


def _ask(
    environment: Environment, context: RequestContext, request: ParsedRequest, names: tuple[str, ...]
) -> Steps[Replies]:
    context.server, context.attempts = ", ".join(names), len(names)
    requests = [_order(request).to(environment, context, name) for name in names]
    replies = yield from ask_all(environment, requests)
    return dict(zip(names, replies, strict=True))


def _conclude(context: RequestContext, request: ParsedRequest, replies: Replies) -> Steps[None]:
    """Relay the first reply if all succeeded or one server was asked; else raise an error that lists both outcomes."""
    first = next(iter(replies.values()))
    failed = {name: reply for name, reply in replies.items() if isinstance(reply, RouterError) or not reply.ok}
    if len(replies) > 1 and failed:
        reasons = {name: _reason(reply) for name, reply in failed.items()}
        raise PartlyDone(failed_on(request.endpoint.name, reasons, [name for name in replies if name not in failed]))
    if isinstance(first, RouterError):
        raise first
    kind = next((value for field, value in first.headers if field == b"content-type"), None)
    yield from answer_for(context, first.body, kind, status=first.status)


def _reason(reply: Reply | RouterError) -> str:
    if isinstance(reply, RouterError):
        return reply.message
    return f"{reply.status} {reply.body[:200].decode('utf-8', 'replace')}".strip()


# --- where models are made --------------------------------------------------------------------------------------------


def make(
    environment: Environment, context: RequestContext, request: ParsedRequest, names: tuple[str, ...]
) -> Steps[None]:
    """Pull or create a model on these servers; the progress of several is merged.

    Raises:
        RouterError: a server failed.
    """
    order = _order(request)
    try:
        if len(names) == 1:
            yield from pass_on(environment, context, request, names[0], order)
        else:
            requests = [order.to(environment, context, name) for name in names]
            yield from merge_progress(context, request, names, requests)
    finally:
        environment.models_changed()
        for name in names:
            environment.fleet.refresh_soon(name)


def pull(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Pull a model to its targets, to servers that have one of that name, or to where it fits.

    Raises:
        RouterError: no server is up, a target is unknown, or a server failed.
    """
    yield from ask_fleet(environment, "/api/tags")
    target = target_of(environment, context)
    names = servers_for_target(target, request.route, environment.fleet.snapshot, environment.config)
    yield from make(environment, context, request, names)


# --- what concerns one server's owner ---------------------------------------------------------------------------------


def serve_account(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Forward a request about one server's ollama.com account.

    Raises:
        RouterError: the route is closed, no server is up, or the server failed.
    """
    target = target_of(environment, context)
    config = environment.config
    if request.endpoint.kind is Kind.ACCOUNT and not config.allow_account_routes:
        raise Forbidden(f"{request.endpoint.path} is disabled; the setting allow_account_routes enables it")
    if isinstance(target, Unsaid):
        names = up_servers(environment)
    else:
        names = servers_for_target(target, request.route, environment.fleet.snapshot, config)
    yield from pass_on(environment, context, request, names[0], _order(request))


# --- shared -----------------------------------------------------------------------------------------------------------


def pass_on(
    environment: Environment, context: RequestContext, request: ParsedRequest, server: str, order: Order
) -> Steps[None]:
    """Send to one server, and relay its response.

    Raises:
        UpstreamError: the server failed.
    """
    context.server, context.attempts = server, 1
    asked = order.to(environment, context, server)
    upstream = yield from open_upstream(asked)
    answer = Answer(asked.destination, upstream, redactor=redactor_for(asked.destination))
    try:
        yield from relay(environment, context, request, answer)
    finally:
        yield from release(environment, context, answer)


def target_of(environment: Environment, context: RequestContext) -> Target:
    """Read the servers in the client's `X-Router-Target`.

    Raises:
        InvalidTarget: one of them is unknown or disabled.
    """
    return read_target(context.header(b"x-router-target"), environment.config)


def up_servers(environment: Environment) -> tuple[str, ...]:
    """Return the servers that are up, by priority.

    Raises:
        NoServerFits: there is none.
    """
    up = servers_by_priority(environment.fleet.snapshot, environment.config)
    if not up:
        raise NoServerFits("no server is up: see orouter status", retry_after=5)
    return up


def _up_among(environment: Environment, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in servers_by_priority(environment.fleet.snapshot, environment.config) if name in names)


def _order(request: ParsedRequest) -> Order:
    endpoint = request.endpoint
    return Order(
        method=endpoint.methods[0], target=request.target, body=request.body, patient=endpoint.name in _PATIENT
    )


def sized_as(request: ParsedRequest) -> RouteRequest:
    """Build the request that sizes a new model as its base."""
    name = request.base or request.route.model_text or ""
    return RouteRequest(model_text=name, model=canonical_name(name))
