"""Access to the console: sessions, roles, and protection against requests from other sites and ports."""

from __future__ import annotations

from typing import Any, Final

import falcon
from falcon.asgi import Request, Response

from ollama_router_core.access.addresses import is_within
from ollama_router_core.errors import Forbidden, MissingCredential
from ollama_router_server.admin.token_access import address_of, check_role
from ollama_router_server.console.sessions import Sessions
from ollama_router_server.services import Services
from ollama_router_server.storage.audit_log import Actor
from ollama_router_server.storage.identities import User

__all__ = ["PAGE_HEADERS", "ConsoleAccess", "is_page"]

ROOT: Final = "/console"
_SAFE = frozenset({"GET", "HEAD"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types fragment"
)
PAGE_HEADERS: Final = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
)


def is_page(request: Request) -> bool:
    """Whether a browser requests a page by navigation."""
    return request.method in _SAFE and request.get_header("x-console") is None


class ConsoleAccess:
    """Guards every path of the console. It reads cookies, never `Authorization`, and never answers CORS requests.

    All ports of a host share cookies, so a page on another port could send them. Requests that change state, and those
    that only the console's script reads, need the field `X-Console`: a foreign page would need a CORS preflight for it,
    which fails.
    """

    def __init__(self, services: Services, sessions: Sessions) -> None:
        self._services = services
        self._sessions = sessions

    async def process_request(self, request: Request, _response: Response) -> None:
        """Reject requests that cannot come from the console's own pages, and find the session."""
        if not _is_ours(request):
            return
        settings = self._services.config.console
        if not settings.enabled:
            raise falcon.HTTPNotFound(title="no such path", description="this router has no console")
        address = address_of(self._services, request)
        if settings.networks and not is_within(settings.networks, address or ""):
            raise Forbidden("the console cannot be opened from this address; see console.networks")
        if request.method not in _SAFE:
            _check_origin(request)
        is_file = request.path.startswith(f"{ROOT}/v/")
        user = None if is_file else await self._sessions.find(request)
        request.context.user = user
        if user is not None:
            request.context.actor = Actor(user.name, "console", address)

    async def process_resource(self, request: Request, _response: Response, resource: Any, _params: Any) -> None:
        """Check the user's role."""
        if not _is_ours(request):
            return
        roles = getattr(resource, "roles", None)
        if roles is None:  # sign-in routes and static files
            return
        user: User | None = request.context.user
        if user is None:
            raise MissingCredential("sign in to see this page")
        check_role(user, roles)

    async def process_response(self, request: Request, response: Response, _resource: Any, _succeeded: Any) -> None:
        """Set the security headers of pages."""
        if not _is_ours(request):
            return
        for name, value in PAGE_HEADERS:
            response.set_header(name, value)
        if response.get_header("cache-control") is None:
            response.set_header("cache-control", "no-store")


def _is_ours(request: Request) -> bool:
    return request.path == ROOT or request.path.startswith(f"{ROOT}/")


def _check_origin(request: Request) -> None:
    """Reject requests that a page of another origin could send.

    Raises:
        Forbidden: the request does not come from a page of this console.
    """
    origin, site = request.get_header("origin"), request.get_header("sec-fetch-site")
    own = (request.get_header("host") or "").lower()
    foreign = origin is not None and origin.partition("://")[2].lower() != own
    kind = (request.content_type or "").partition(";")[0].strip().lower()
    if foreign or request.get_header("x-console") != "1" or site not in {None, "same-origin"}:
        raise Forbidden("only the console's own pages may do this")
    if kind not in {"", "application/json"}:
        raise Forbidden("the body must be application/json")
