"""Console sessions of a user: `GET` and `DELETE /router/users/{name}/sessions`, `DELETE .../sessions/{id}`."""

from __future__ import annotations

from falcon.asgi import Request

from ollama_router_server.admin.json_bodies import actor_of
from ollama_router_server.admin.response_bodies import EndedSessionsBody, SessionBody, SessionsBody
from ollama_router_server.services import Services

__all__ = ["end_sessions", "list_sessions"]


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
