"""Reranking: Ollama has no such route, so requests go to hosts or servers with the setting `rerank`."""

from __future__ import annotations

from collections.abc import Iterator

from ollama_router_core.access.grants import check_host
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.config.settings import ExternalHost, Server
from ollama_router_core.errors import UnknownRoute
from ollama_router_core.exchange.actions import Steps
from ollama_router_core.exchange.asking import Order
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.model_operations import pass_on
from ollama_router_core.routing.model_placement import owners, servers_by_priority
from ollama_router_core.routing.selector import assigned_destination

__all__ = ["rerank"]

_MOST_NAMES = 5


def rerank(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Forward the request to a destination where its model can rerank.

    Raises:
        UnknownRoute: no destination with the model can rerank; the text names those that could.
        Forbidden: the user may not use the host.
        UpstreamError: the server failed.
    """
    name = next(_rerankers(environment, request), None)
    if name is None:
        raise UnknownRoute(_no_reranker(environment, request))
    destination, user = environment.destinations[name], context.user
    if destination.external and user is not None:
        check_host(user.role, user.grants, environment.config.external_hosts_for, name)
    asked = request.route.model_text or ""
    there = destination.model_there(asked)
    sent = request if there == asked else request.with_model(there)
    order = Order(method="POST", target=_paths(environment)[name], body=sent.body)
    yield from pass_on(environment, context, sent, name, order)


def _paths(environment: Environment) -> dict[str, str]:
    """Map each enabled destination that can rerank to its path."""
    config = environment.config
    destinations: tuple[tuple[str, Server | ExternalHost], ...] = (
        *config.servers.items(),
        *config.external_hosts.items(),
    )
    return {
        name: settings.rerank for name, settings in destinations if settings.enabled and settings.rerank is not None
    }


def _rerankers(environment: Environment, request: ParsedRequest) -> Iterator[str]:
    """Yield where the model can rerank, by priority: its assigned destination, else servers that have it."""
    paths, config, snapshot = _paths(environment), environment.config, environment.fleet.snapshot
    assigned = assigned_destination(request.route, config)
    if assigned is not None:
        yield from (name for name in (assigned,) if name in paths)
        return
    have = owners(snapshot, request.route.model)
    for name in servers_by_priority(snapshot, config):
        if name in paths and name in have and name not in snapshot.draining:
            yield name


def _no_reranker(environment: Environment, request: ParsedRequest) -> str:
    names = sorted(_paths(environment))
    if not names:
        return f"no server or host serves {request.endpoint.path}; set `rerank` on one that does"
    shown = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" * (len(names) > _MOST_NAMES))
    return (
        f"{request.route.model_text} is on no server or host that serves {request.endpoint.path};"
        f" assign it to one that does (explicit_assignments): {shown}"
    )
