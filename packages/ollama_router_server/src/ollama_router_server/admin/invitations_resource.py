"""Links that sign a user in: `POST` and `DELETE /router/users/{name}/invitation`."""

from __future__ import annotations

from falcon.asgi import Request

from ollama_router_server.admin.json_bodies import actor_of
from ollama_router_server.admin.links import INVITATION_SECONDS, base_url, link_of
from ollama_router_server.admin.response_bodies import InvitationBody, WithdrawnBody
from ollama_router_server.services import Services

__all__ = ["invite", "withdraw"]


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
    gone = await services.console_sessions.withdraw(name, by=actor_of(request))
    return WithdrawnBody(user=name, withdrawn=gone)
