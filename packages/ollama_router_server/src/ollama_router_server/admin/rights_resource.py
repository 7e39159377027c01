"""What a user could do after a change: `POST /router/users/{name}/rights`."""

from __future__ import annotations

from falcon.asgi import Request

from ollama_router_server.admin.json_bodies import read_body
from ollama_router_server.admin.request_bodies import UserPatch
from ollama_router_server.admin.users_resource import change_of
from ollama_router_server.admin.views.rights import RightsView, rights_view
from ollama_router_server.services import Services

__all__ = ["rights_after"]


async def rights_after(services: Services, request: Request, name: str) -> RightsView:
    """Tell what a user could do after a change in the form of `PATCH /router/users/{name}`; it is not made."""
    return await rights_view(services, name, change_of(await read_body(request, UserPatch)))
