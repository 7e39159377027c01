"""Console sessions and sign-in links of a user: the routes below `/router/users/{name}/` for both."""

from __future__ import annotations

from falcon.asgi import Request

from ollama_router_server.admin.json_bodies import actor_of
from ollama_router_server.admin.links import INVITATION_SECONDS, base_url, link_of
from ollama_router_server.admin.response_bodies import (
    EndedSessionsBody,
    InvitationBody,
    SessionBody,
    SessionsBody,
    WithdrawnBody,
)
from ollama_router_server.services import Services

__all__ = ["end_sessions", "invite", "list_sessions", "withdraw"]


async def list_sessions(services: Services, _request: Request, name: str) -> SessionsBody:
    """List the open sessions of a user, newest first.

    Raises:
        UnknownUser: the user does not exist.
    """
    found = await services.console_sessions.list(name)
    return SessionsBody(user=name, sessions=[SessionBody.from_object(one) for one in found])


async def end_sessions(services: Services, request: Request, name: str, id: str | None = None) -> EndedSessionsBody:  # noqa: A002 - the route's name
    """End a user's sessions and unused links, or one session; `ended` is 0 if it had already ended.

    Open pages ask to sign in again within a second or two.
    """
    ended = await services.console_sessions.end(name, by=actor_of(request), only=id)
    return EndedSessionsBody(user=name, ended=ended)


async def invite(services: Services, request: Request, name: str) -> InvitationBody:
    """Create a link that signs a user in, once, within three days; a user without a token gets one with it.

    Raises:
        UnknownUser: the user does not exist.
    """
    expires_at = services.clock.wall() + INVITATION_SECONDS
    secret = await services.console_sessions.invite(name, seconds=INVITATION_SECONDS, by=actor_of(request))
    return InvitationBody(user=name, link=link_of(base_url(services, request), secret), expires_at=expires_at)


async def withdraw(services: Services, request: Request, name: str) -> WithdrawnBody:
    """Withdraw the user's unused links."""
    withdrawn = await services.console_sessions.withdraw(name, by=actor_of(request))
    return WithdrawnBody(user=name, withdrawn=withdrawn)
