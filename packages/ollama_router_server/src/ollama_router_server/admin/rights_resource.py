"""What a user may do in the end, now or after a change: `GET` and `POST /router/users/{name}/rights`."""

from __future__ import annotations

from falcon.asgi import Request, Response

from ollama_router_server.admin.json_bodies import answer, read_body
from ollama_router_server.admin.request_bodies import UserPatch
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.admin.users_resource import change_of
from ollama_router_server.admin.views.rights import rights_view
from ollama_router_server.services import Services

__all__ = ["RightsResource"]


class RightsResource:
    """Each right with its origin, each model and host with the reason: `GET` as it is, `POST` as it would be."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, _request: Request, response: Response, name: str) -> None:
        """Answer one user's rights."""
        answer(response, await rights_view(self._services, name))

    async def on_post(self, request: Request, response: Response, name: str) -> None:
        """Answer what one user could do after a change, in the form of `PATCH /router/users/{name}`; it is not made."""
        change = change_of(await read_body(request, UserPatch))
        answer(response, await rights_view(self._services, name, change))
