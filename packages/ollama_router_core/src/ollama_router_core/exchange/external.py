"""Pass-through routes of external hosts."""

from __future__ import annotations

from ollama_router_core.access.grants import check_host
from ollama_router_core.api.requests import ParsedRequest, RouteRequest
from ollama_router_core.errors import Forbidden
from ollama_router_core.exchange.actions import Steps, StreamBody
from ollama_router_core.exchange.asking import Order
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.exchange.events import BodyStream
from ollama_router_core.exchange.lengths import declared_length
from ollama_router_core.exchange.model_operations import pass_on
from ollama_router_core.outbound.external_routes import EXTERNAL, checked_query, match_external

__all__ = ["pass_external", "read_external"]


def read_external(environment: Environment, context: RequestContext) -> ParsedRequest:
    """Resolve host and target of a pass-through request; its body is streamed.

    Raises:
        RouterError: there is no such route, or the user may not use it.
    """
    match = match_external(context.method, context.path, environment.config)
    user, host = context.user, environment.config.external_hosts[match.host]
    if user is not None and host.routes_for == "admin" and user.role != "admin":
        raise Forbidden(f"routes of {match.host} are for admins only; see the setting routes_for")
    if user is not None:
        check_host(user.role, user.grants, environment.config.external_hosts_for, match.host)
    target = match.target + checked_query(context.query.decode("latin-1"))
    return ParsedRequest(endpoint=EXTERNAL, route=RouteRequest(), body=b"", parameter=match.host, target=target)


def pass_external(environment: Environment, context: RequestContext, request: ParsedRequest) -> Steps[None]:
    """Forward the request and relay the response.

    Raises:
        UpstreamError: the host failed.
    """
    length = declared_length(context.headers)
    body: bytes | BodyStream = b""
    if length or any(name == b"transfer-encoding" for name, _ in context.headers):
        (body,) = yield StreamBody(1)
    order = Order(method=context.method, target=request.target, body=body, body_length=length)
    yield from pass_on(environment, context, request, request.parameter or "", order)
