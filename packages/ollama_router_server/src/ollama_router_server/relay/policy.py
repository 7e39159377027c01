"""What the operator decided about models, applied to one exchange: other names, contexts, keep-alives, stand-ins."""

from __future__ import annotations

from ollama_router_core.api.endpoints import Routing
from ollama_router_core.api.model_names import is_cloud_name
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import Forbidden
from ollama_router_core.routing.policy import apply_policy, fallback_for, stays_local
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.relay.access import check_granted_model, check_hosted
from ollama_router_server.relay.exchange import Exchange

__all__ = ["Policy"]


class Policy:
    """The config's rules for models."""

    def __init__(self, config: Config, fleet: FleetService) -> None:
        self._config = config
        self._settings = config.models
        self._fleet = fleet
        self._rewrites = bool(self._settings.aliases or self._settings.rules)

    def applied(self, exchange: Exchange, request: ParsedRequest) -> ParsedRequest:
        """The request as it will be sent; what follows checks this one.

        Raises:
            Forbidden: a model that has to stay on the operator's own servers would leave them.
        """
        exchange.route = request.route
        if request.endpoint.routing is not Routing.ONE or request.route.model is None:
            return request
        if self._rewrites:
            applied = apply_policy(request, self._settings)
            if applied.changes:
                exchange.asked = exchange.asked or request.route.model_text
                exchange.changes = (*exchange.changes, *applied.changes)
                request = applied.request
                exchange.route = request.route
        self._keep_local(request)
        return request

    def has_stand_in(self, request: ParsedRequest) -> bool:
        """Whether another model may answer where this one cannot."""
        model = request.route.model
        return model is not None and fallback_for(model, self._settings) is not None

    def stand_in(self, exchange: Exchange, request: ParsedRequest) -> ParsedRequest | None:
        """The same request for the model that may answer instead; None without one, or if the user may not use it.

        The exchange is about the stand-in from then on.
        """
        model = request.route.model
        name = None if model is None or exchange.fallback is not None else fallback_for(model, self._settings)
        if name is None:
            return None
        before = exchange.route, exchange.asked, exchange.changes
        exchange.asked = exchange.asked or request.route.model_text
        exchange.changes = (*exchange.changes, f"{name} stands in for {request.route.model_text}")
        try:
            instead = self.applied(exchange, request.with_model(name))
            check_granted_model(exchange)
            check_hosted(exchange, instead, self._config, self._fleet)
        except Forbidden:
            exchange.route, exchange.asked, exchange.changes = before
            return None
        exchange.fallback = name
        return instead

    def _keep_local(self, request: ParsedRequest) -> None:
        model = request.route.model
        if not self._settings.local_only or model is None or not stays_local(model, self._settings):
            return
        if is_cloud_name(request.route.model_text or "") or self._fleet.is_stub(model):
            raise Forbidden(f"{request.route.model_text} must stay on the operator's own servers (local_only)")
