"""`X-Router-Pin`: an admin chooses the server, instead of the strategy."""

from __future__ import annotations

from msgspec.structs import replace

from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.errors import Forbidden, InvalidHeader
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment

__all__ = ["pinned"]

_FIELD = b"x-router-pin"
_SHOWN = 100


def pinned(environment: Environment, context: RequestContext, request: ParsedRequest) -> ParsedRequest:
    """Pin the request to the server in `X-Router-Pin`, if any.

    Raises:
        Forbidden: the user is no admin.
        InvalidHeader: the server is unknown or disabled.
    """
    name = context.header(_FIELD)
    if name is None or request.route.pin is not None:
        return request
    if context.user is not None and context.user.role != "admin":
        raise Forbidden("X-Router-Pin: only admins may name the server that answers")
    server = environment.config.servers.get(name)
    if server is None or not server.enabled:
        raise InvalidHeader(f"X-Router-Pin names {name[:_SHOWN]!r}, which is not an enabled server")
    context.changes = (*context.changes, f"pinned to {name}")
    request = replace(request, route=replace(request.route, pin=name))
    context.route = request.route
    return request
