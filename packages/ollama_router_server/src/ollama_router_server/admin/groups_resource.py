"""Groups over HTTP: the operations of `orouter groups`, and a group's effect on its members."""

from __future__ import annotations

from typing import Final

from falcon.asgi import Request

from ollama_router_server.admin.grant_bodies import changes_of, grants_body, grants_of
from ollama_router_server.admin.json_bodies import actor_of, read_body
from ollama_router_server.admin.request_bodies import GroupPatch, NewGroup
from ollama_router_server.admin.response_bodies import DeletedBody, GroupBody, GroupsBody, ListedGroupBody
from ollama_router_server.admin.views.rights import GroupRightsView, group_rights_view
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import GroupSummary

__all__ = ["change_group", "create_group", "delete_group", "group_rights_after", "list_groups", "show_group"]

_MOST: Final = 200


async def list_groups(services: Services, request: Request) -> GroupsBody:
    """List a page of groups, as the query selects."""
    limit = request.get_param_as_int("limit", min_value=1, max_value=_MOST) or _MOST
    search, after = request.get_param("search") or None, request.get_param("after") or None
    page = await services.groups.page(search=search, after=after, limit=limit)
    return GroupsBody(groups=[_listed(group) for group in page.groups], next=page.next, matching=page.matching)


async def create_group(services: Services, request: Request) -> GroupBody:
    """Create a group."""
    new = await read_body(request, NewGroup)
    await services.groups.by(actor_of(request)).create(new.name, grants_of(new.grants))
    return await show_group(services, request, new.name)


async def show_group(services: Services, _request: Request, name: str) -> GroupBody:
    """Show one group."""
    group = await services.groups.show(name)
    return GroupBody.from_object(group, grants=grants_body(group.grants))


async def change_group(services: Services, request: Request, name: str) -> GroupBody:
    """Change a group's grants."""
    patch = await read_body(request, GroupPatch)
    await services.groups.by(actor_of(request)).set_grants(name, changes_of(patch.grants))
    return await show_group(services, request, name)


async def delete_group(services: Services, request: Request, name: str) -> DeletedBody:
    """Delete a group without members."""
    await services.groups.by(actor_of(request)).delete(name)
    return DeletedBody(name=name, deleted=True)


async def group_rights_after(services: Services, request: Request, name: str) -> GroupRightsView:
    """Return the effect of a group on its members after a change in the form of `PATCH`, without making it."""
    patch = await read_body(request, GroupPatch)
    return await group_rights_view(services, name, changes_of(patch.grants))


def _listed(group: GroupSummary) -> ListedGroupBody:
    return ListedGroupBody.from_object(
        group,
        grants=grants_body(group.grants),
        member_count=group.members,
        requests_7d=group.requests,
        tokens_7d=group.tokens,
    )
