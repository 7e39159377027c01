"""Access to the router's own routes: a token for `/router/...`, and the roles that each resource requires."""

from __future__ import annotations

from typing import Any

from falcon.asgi import Request, Response

from ollama_router_core.access.grants import check_expiry, check_network
from ollama_router_core.errors import Forbidden
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import Actor
from ollama_router_server.storage.identities import Role, User

__all__ = ["ADMINS", "EVERYBODY", "READERS", "TokenAccess", "address_of", "check_role"]

ADMINS: frozenset[Role] = frozenset({"admin"})
READERS: frozenset[Role] = frozenset({"admin", "viewer"})
EVERYBODY: frozenset[Role] = frozenset({"admin", "viewer", "user"})


def address_of(services: Services, request: Request) -> str | None:
    """Return the client's address, as reported by trusted proxies."""
    peer = request.scope.get("client")
    return services.proxies.client(str(peer[0]) if peer else None, request.scope["headers"])


def check_role(user: User, roles: frozenset[Role]) -> None:
    """Check that a resource permits a user's role.

    Raises:
        Forbidden: it does not.
    """
    if user.role in roles:
        return
    if "viewer" in roles:
        raise Forbidden("this route needs the token of an admin or a viewer")
    raise Forbidden("this route needs an admin's token")


class TokenAccess:
    """Require a token for every route below `/router/`, and for `/metrics` unless `metrics_open` is set.

    Authentication precedes routing, so that strangers cannot learn which routes exist.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def process_request(self, request: Request, _response: Response) -> None:
        """Authenticate the user."""
        if not self._is_closed(request):
            return
        address = address_of(self._services, request)
        found = self._services.authenticator.authenticate(request.scope["headers"], address)
        user = found if isinstance(found, User) else await found
        check_expiry(user.grants, self._services.clock.wall())
        check_network(user.grants, address)
        request.context.user = user
        request.context.actor = Actor(user.name, "http", address)

    async def process_resource(self, request: Request, _response: Response, resource: Any, _params: Any) -> None:
        """Check the user's role. A resource below `/router/` without roles is a bug, and fails."""
        if self._is_closed(request):
            check_role(request.context.user, resource.roles)

    def _is_closed(self, request: Request) -> bool:
        if request.path.startswith("/metrics"):
            return not self._services.config.metrics_open
        return request.path.startswith("/router/")
