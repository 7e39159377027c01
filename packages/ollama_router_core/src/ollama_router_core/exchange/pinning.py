"""`X-Router-Pin`: an admin names the server that is to answer, whatever the strategy would choose."""

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
    """Pin the request to the server that its client names; leave it as it is where none is named.

    Raises:
        Forbidden: only admins may, and programs that route their own requests.
        InvalidHeader: the config has no such server, or it is disabled.
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
