"""What a user may do in the end: `GET /router/users/{name}/rights`."""

from __future__ import annotations

from falcon.asgi import Request, Response

from ollama_router_server.admin.access import ADMINS
from ollama_router_server.admin.bodies import answer
from ollama_router_server.admin.views.rights import rights_view
from ollama_router_server.services import Services

__all__ = ["RightsResource"]


class RightsResource:
    """`GET /router/users/{name}/rights`: each right with its origin, each model and host with the reason."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, _request: Request, response: Response, name: str) -> None:
        """Answer one user's rights."""
        answer(response, await rights_view(self._services, name))
