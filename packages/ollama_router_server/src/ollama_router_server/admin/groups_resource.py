"""Groups over HTTP: what `orouter groups` does, and what each means for its members."""

from __future__ import annotations

from typing import Final

from falcon.asgi import Request, Response

from ollama_router_server.admin.grant_bodies import changes_of, grants_body, grants_of
from ollama_router_server.admin.json_bodies import actor_of, answer, read_body
from ollama_router_server.admin.request_bodies import GroupPatch, NewGroup
from ollama_router_server.admin.response_bodies import DeletedBody, GroupBody, GroupsBody, ListedGroupBody
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.admin.views.rights import group_rights_view
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import Group, GroupSummary

__all__ = ["GroupResource", "GroupRightsResource", "GroupsResource", "list_groups"]

_MOST: Final = 200


async def list_groups(services: Services, request: Request) -> GroupsBody:
    """List the page of groups that the query asks for."""
    limit = request.get_param_as_int("limit", min_value=1, max_value=_MOST) or _MOST
    search, after = request.get_param("search") or None, request.get_param("after") or None
    page = await services.groups.page(search=search, after=after, limit=limit)
    return GroupsBody(groups=[_listed(group) for group in page.groups], next=page.next, matching=page.matching)


class GroupsResource:
    """`GET` and `POST /router/groups`."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """List groups by name, a page at a time."""
        answer(response, await list_groups(self._services, request))

    async def on_post(self, request: Request, response: Response) -> None:
        """Create a group."""
        new, groups = await read_body(request, NewGroup), self._services.groups
        await groups.by(actor_of(request)).create(new.name, grants_of(new.grants))
        answer(response, _group(await groups.show(new.name)), status=201)


class GroupResource:
    """`GET`, `PATCH` and `DELETE /router/groups/{name}`."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._groups = services.groups

    async def on_get(self, _request: Request, response: Response, name: str) -> None:
        """Show one group."""
        answer(response, _group(await self._groups.show(name)))

    async def on_patch(self, request: Request, response: Response, name: str) -> None:
        """Change a group's grants."""
        patch = await read_body(request, GroupPatch)
        await self._groups.by(actor_of(request)).set_grants(name, changes_of(patch.grants))
        answer(response, _group(await self._groups.show(name)))

    async def on_delete(self, request: Request, response: Response, name: str) -> None:
        """Delete a group without members."""
        await self._groups.by(actor_of(request)).delete(name)
        answer(response, DeletedBody(name=name, deleted=True))


class GroupRightsResource:
    """What a group's grants come to for its members: `GET` as it is, `POST` as it would be."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, _request: Request, response: Response, name: str) -> None:
        """Answer what one group means."""
        answer(response, await group_rights_view(self._services, name))

    async def on_post(self, request: Request, response: Response, name: str) -> None:
        """Answer what one group would mean after a change in the form of `PATCH`; it is not made."""
        patch = await read_body(request, GroupPatch)
        answer(response, await group_rights_view(self._services, name, changes_of(patch.grants)))


def _listed(group: GroupSummary) -> ListedGroupBody:
    return ListedGroupBody(
        name=group.name,
        grants=grants_body(group.grants),
        member_count=group.members,
        requests_7d=group.requests,
        tokens_7d=group.tokens,
        created_at=group.created_at,
    )


def _group(group: Group) -> GroupBody:
    return GroupBody(
        name=group.name,
        grants=grants_body(group.grants),
        members=list(group.members),
        created_at=group.created_at,
    )
