"""May this exchange go on: grants, limits, and the end of an exchange whose user was revoked meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ollama_router_core.access.grants import (
    check_cloud,
    check_endpoint,
    check_expiry,
    check_host,
    check_model,
    check_network,
    may_use_host,
)
from ollama_router_core.access.limits import estimate_tokens
from ollama_router_core.api.endpoints import Endpoint, Kind
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import Forbidden, RouterError
from ollama_router_core.routing.decision import Decision
from ollama_router_core.routing.selector import assigned_destination
from ollama_router_server.accounts.authentication import Authenticator
from ollama_router_server.accounts.usage_limits import Ticket, UsageLimits, has_limits
from ollama_router_server.fleet.service import FleetService
from ollama_router_server.relay.exchange import Exchange
from ollama_router_server.storage.identities import User
from ollama_router_server.upstream.targets import Target

__all__ = [
    "LiveExchanges",
    "check_granted_model",
    "check_hosted",
    "check_route",
    "count",
    "count_at_once",
    "granted_ranking",
    "settle",
]


def check_route(user: User, endpoint: Endpoint, address: str | None, *, wall: float) -> None:
    """Check what can be checked before the body is read.

    Raises:
        Forbidden: the user may not use this route, from here, now.
    """
    check_expiry(user.grants, wall)
    check_network(user.grants, address)
    check_endpoint(user.role, endpoint, user.grants)


def check_granted_model(exchange: Exchange) -> None:
    """Check the model that the request names.

    Raises:
        Forbidden: the user may not use it.
    """
    if exchange.user is not None and exchange.route is not None and exchange.route.model_text is not None:
        check_model(exchange.user.grants, exchange.route.model_text)


def check_hosted(exchange: Exchange, request: ParsedRequest, config: Config, fleet: FleetService) -> None:
    """Check a request that a server would send on to ollama.com: by its name, its tools, or a stub's name.

    Models that the config assigns to an external host have nothing to do with it, and a stub may be deleted.

    Raises:
        Forbidden: this needs a permission that the user lacks.
    """
    user, model = exchange.user, request.route.model
    if user is None or request.endpoint.name == "delete":
        return
    if not request.route.uses_cloud and (model is None or not fleet.is_stub(model)):
        return
    if assigned_destination(request.route, config) not in config.external_hosts:
        check_cloud(user.role, user.grants, config.cloud, request.route.model_text or request.endpoint.path)


def granted_ranking(user: User, decision: Decision, targets: Mapping[str, Target]) -> Decision:
    """The decision without external hosts that the user may not use.

    Raises:
        Forbidden: nothing is left.
    """
    if user.grants.hosts is None or not decision.ranking:
        return decision
    kept = tuple(name for name in decision.ranking if not targets[name].external or may_use_host(user.grants, name))
    if not kept:
        check_host(user.grants, decision.ranking[0])
    return decision if kept == decision.ranking else decision.among(kept)


def is_counted(user: User, endpoint: Endpoint) -> bool:
    """Whether a request counts against its user's limits. Reading is free."""
    return endpoint.kind is not Kind.READ and has_limits(user.grants)


async def count(ledger: UsageLimits, exchange: Exchange, endpoint: Endpoint) -> None:
    """Count an exchange against its user's limits, until `settle`.

    Raises:
        LimitExceeded: a limit is used up.
        StorageUnavailable: what was used before cannot be read.
    """
    user = exchange.user
    if user is None or not is_counted(user, endpoint):
        return
    try:
        exchange.ticket = await ledger.admit(user, tokens=_estimate(exchange, endpoint))
    finally:
        exchange.standing = ledger.standing(user)


def count_at_once(ledger: UsageLimits, exchange: Exchange, endpoint: Endpoint) -> bool:
    """`count` without waiting; False if something has to be read first, and nothing was counted.

    Raises:
        LimitExceeded: a limit is used up.
    """
    user = exchange.user
    if user is None or not is_counted(user, endpoint):
        return True
    exchange.ticket = ledger.admit_at_once(user, tokens=_estimate(exchange, endpoint))
    exchange.standing = ledger.standing(user)
    return exchange.ticket is not None


def settle(ledger: UsageLimits, exchange: Exchange, ticket: Ticket) -> None:
    """An exchange that was counted has ended: what it was taken for is replaced by what it used."""
    ledger.settle(ticket, _used(exchange, ticket))


def _estimate(exchange: Exchange, endpoint: Endpoint) -> int:
    route = exchange.route
    return estimate_tokens(route.prompt_bytes, route.max_tokens) if endpoint.counts_usage and route is not None else 0


def _used(exchange: Exchange, ticket: Ticket) -> int:
    """What the server said; when it began to answer and could not say, what was taken."""
    usage = exchange.usage.usage if exchange.usage else None
    if usage is not None and (usage.prompt_tokens is not None or usage.completion_tokens is not None):
        return (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
    return ticket.tokens if usage is not None else 0


class LiveExchanges:
    """The exchanges under way, so that those of a revoked user can be ended."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._live: dict[str, Exchange] = {}
        authenticator.on_change(self.end_revoked)

    def __iter__(self) -> Iterator[Exchange]:
        """Those under way, the oldest first."""
        return iter(self._live.values())

    def begin(self, exchange: Exchange) -> None:
        """An exchange is under way until `end`."""
        self._live[exchange.id] = exchange

    def end(self, exchange: Exchange) -> None:
        """An exchange is over."""
        self._live.pop(exchange.id, None)

    def end_revoked(self) -> None:
        """End what belongs to users who would not be let in any more."""
        for exchange in tuple(self._live.values()):
            if exchange.user is not None and not self._authenticator.is_still_valid(exchange.user):
                exchange.client.end(_revoked())


def _revoked() -> RouterError:
    return Forbidden("the token was revoked or its user deactivated while the request was under way")
