"""Links that let somebody in: `POST` and `DELETE /router/users/{name}/invitation`."""

from __future__ import annotations

from falcon.asgi import Request, Response

from ollama_router_server.admin.json_bodies import actor_of, answer
from ollama_router_server.admin.links import INVITATION_SECONDS, base_url, link_of
from ollama_router_server.admin.response_bodies import InvitationBody, WithdrawnBody
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.services import Services

__all__ = ["InvitationResource", "invite"]


async def invite(services: Services, request: Request, user: str) -> InvitationBody:
    """Make a link that signs a user in, once, within three days; a user without a token gets one with it.

    Raises:
        UnknownUser: there is no such user.
    """
    expires_at = services.clock.wall() + INVITATION_SECONDS
    secret = await services.console_sessions.invite(user, seconds=INVITATION_SECONDS, by=actor_of(request))
    return InvitationBody(user=user, link=link_of(base_url(services, request), secret), expires_at=expires_at)


class InvitationResource:
    """`POST` makes a link, `DELETE` ends all that nobody has used."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_post(self, request: Request, response: Response, name: str) -> None:
        """Invite a user; the response has the link, shown only now."""
        answer(response, await invite(self._services, request, name), status=201)

    async def on_delete(self, request: Request, response: Response, name: str) -> None:
        """Withdraw the user's links."""
        gone = await self._services.console_sessions.withdraw(name, by=actor_of(request))
        answer(response, WithdrawnBody(user=name, withdrawn=gone))
