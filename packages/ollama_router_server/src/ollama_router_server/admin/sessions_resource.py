"""Console sessions of a user: `GET` and `DELETE /router/users/{name}/sessions`, `DELETE .../sessions/{id}`."""

from __future__ import annotations

from falcon.asgi import Request, Response

from ollama_router_server.admin.json_bodies import actor_of, answer
from ollama_router_server.admin.response_bodies import EndedSessionsBody, SessionBody, SessionsBody
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.services import Services

__all__ = ["UserSessionResource", "UserSessionsResource", "list_sessions"]


async def list_sessions(services: Services, user: str) -> SessionsBody:
    """List the open sessions of a user, the newest first.

    Raises:
        UnknownUser: there is no such user.
    """
    found = await services.console_sessions.list(user)
    return SessionsBody(
        user=user,
        sessions=[
            SessionBody(id=one.id, method=one.method, token=one.token, created_at=one.created_at, seen_at=one.seen_at)
            for one in found
        ],
    )


class UserSessionsResource:
    """`GET` lists a user's open sessions, `DELETE` ends them all, and links that nobody has used."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, _request: Request, response: Response, name: str) -> None:
        """Answer the sessions."""
        answer(response, await list_sessions(self._services, name))

    async def on_delete(self, request: Request, response: Response, name: str) -> None:
        """End them; their pages ask to sign in again within a second or two."""
        ended = await self._services.console_sessions.end(name, by=actor_of(request))
        answer(response, EndedSessionsBody(user=name, ended=ended))


class UserSessionResource:
    """`DELETE` ends one session."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_delete(self, request: Request, response: Response, name: str, id: str) -> None:  # noqa: A002 - the route's name
        """End it; ended is 0 where it was over already."""
        ended = await self._services.console_sessions.end(name, by=actor_of(request), only=id)
        answer(response, EndedSessionsBody(user=name, ended=ended))
