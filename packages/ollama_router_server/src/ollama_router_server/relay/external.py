"""Routes of external hosts that pass as they are."""

from __future__ import annotations

from ollama_router_core.access.grants import check_host
from ollama_router_core.api.requests import ParsedRequest, RouteRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import Forbidden
from ollama_router_core.outbound.external_routes import EXTERNAL, checked_query, match_external
from ollama_router_server.relay.delivery import deliver
from ollama_router_server.relay.dispatch import Dispatch, Outgoing
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.relay.uploads import declared_length
from ollama_router_server.system import Clock

__all__ = ["ExternalPass"]


class ExternalPass:
    """Serves `/external/NAME/...`."""

    def __init__(self, config: Config, dispatch: Dispatch, clock: Clock) -> None:
        self._config = config
        self._dispatch = dispatch
        self._clock = clock

    def read(self, exchange: Exchange) -> ParsedRequest:
        """What to send where, without the body, which is passed on as it comes.

        Raises:
            RouterError: no such route, or this user may not use it.
        """
        match = match_external(exchange.method, exchange.path, self._config)
        user, host = exchange.user, self._config.external_hosts[match.host]
        if user is None or (host.routes_for == "admin" and user.role != "admin"):
            raise Forbidden(f"routes of {match.host} are for admins; see the setting routes_for")
        check_host(user.grants, match.host)
        query = checked_query(exchange.query.decode("latin-1"))
        return ParsedRequest(
            endpoint=EXTERNAL, route=RouteRequest(), body=b"", parameter=match.host, target=match.target + query
        )

    async def serve(self, exchange: Exchange, request: ParsedRequest) -> None:
        """Pass the request on and the answer back.

        Raises:
            UpstreamError: the host failed.
        """
        host = request.parameter or ""
        exchange.server, exchange.attempts = host, 1
        headers = exchange.headers
        length = declared_length(headers)
        chunked = any(name == b"transfer-encoding" for name, _ in headers)
        outgoing = Outgoing(method=exchange.method, target=request.target)
        if length or chunked:
            body = exchange.client.pieces()
            outgoing = Outgoing(method=exchange.method, target=request.target, body=body, body_length=length)
        answer = await self._dispatch.open(exchange, host, outgoing)
        try:
            await deliver(exchange, request, answer, self._clock)
        finally:
            answer.release()
