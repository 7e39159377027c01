"""Users and tokens over HTTP: the operations of `orouter users`."""

from __future__ import annotations

from typing import Any, Final, get_args

from falcon.asgi import Request

from ollama_router_core.access.grants import combine_grants
from ollama_router_core.access.limits import day_of, nearest_end
from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.grant_bodies import changes_of, grants_body, grants_of
from ollama_router_server.admin.json_bodies import actor_of, read_body
from ollama_router_server.admin.query_parameters import read_choice
from ollama_router_server.admin.request_bodies import NewToken, NewUser, UserPatch
from ollama_router_server.admin.response_bodies import (
    CreatedTokenBody,
    CreatedUserBody,
    DeletedBody,
    ListedUserBody,
    TokenBody,
    TokensBody,
    UserDetailsBody,
    UsersBody,
)
from ollama_router_server.admin.sessions_resource import invite
from ollama_router_server.admin.views.rights import RightsView, rights_view
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import Role, UserChange, UserFilter, UserSummary
from ollama_router_server.storage.recent_use import RecentUse

__all__ = [
    "add_token",
    "change_user",
    "create_user",
    "delete_user",
    "list_tokens",
    "list_users",
    "revoke_token",
    "rights_after",
    "show_user",
]

_MOST: Final = 200


async def create_user(services: Services, request: Request) -> CreatedUserBody:
    """Create a user; the response has the token, or a link for an invited user, shown only now."""
    new = await read_body(request, NewUser)
    users, grants = services.users.by(actor_of(request)), grants_of(new.grants)
    if new.invite:
        await users.create_without_token(new.name, role=new.role, group=new.group, grants=grants)
        link = await invite(services, request, new.name)
        return CreatedUserBody(name=new.name, role=new.role, token=None, invitation=link)
    created = await users.create(new.name, role=new.role, group=new.group, grants=grants)
    return CreatedUserBody(name=created.user, role=created.role, token=created.token.reveal())


async def list_users(services: Services, request: Request) -> UsersBody:
    """List a page of users, as the query selects.

    Raises:
        InvalidBody: a parameter is invalid.
    """
    for name, value in request.params.items():
        if isinstance(value, list):
            raise InvalidBody(f"{name} is given more than once")
    active = read_choice(request, "active", ("true", "false"))
    chosen = UserFilter(
        search=request.get_param("search") or None,
        role=read_choice(request, "role", get_args(Role)),
        group=request.get_param("group") or None,
        active=None if active is None else active == "true",
    )
    limit = request.get_param_as_int("limit", min_value=1, max_value=_MOST) or _MOST
    page = await services.users.page(chosen, after=request.get_param("after") or None, limit=limit)
    wall = services.clock.wall()
    use = await services.users.recent_use([user.name for user in page.users], today=day_of(wall))
    users = [_listed(user, use[user.name], wall) for user in page.users]
    return UsersBody(users=users, next=page.next, matching=page.matching)


def _listed(user: UserSummary, use: RecentUse, wall: float) -> ListedUserBody:
    grants = combine_grants(user.own_grants, use.group)
    nearest = nearest_end(use.tokens, grants, wall=wall)
    return ListedUserBody.from_object(
        user,
        **_grants_and_tokens(user),
        requests_7d=use.requests,
        tokens_used=None if nearest is None else nearest[1].limit - nearest[1].remaining,
        tokens_limit=None if nearest is None else nearest[1].limit,
        tokens_per=None if nearest is None else nearest[0],
        last_seen=max((token.last_used_at for token in user.tokens if token.last_used_at is not None), default=None),
        expires_at=grants.expires_at,
    )


async def show_user(services: Services, _request: Request, name: str) -> UserDetailsBody:
    """Show one user with totals."""
    details = await services.users.show(name)
    return UserDetailsBody.from_object(
        details.summary,
        **_grants_and_tokens(details.summary),
        errors=details.errors,
        mean_ms=details.mean_ms,
        prompt_tokens=details.prompt_tokens,
        completion_tokens=details.completion_tokens,
    )


async def change_user(services: Services, request: Request, name: str) -> UserDetailsBody:
    """Change a user, atomically."""
    change = _change_of(await read_body(request, UserPatch))
    await services.users.by(actor_of(request)).change(name, change)
    return await show_user(services, request, name)


async def delete_user(services: Services, request: Request, name: str) -> DeletedBody:
    """Delete a user with tokens and log rows."""
    rows = await services.users.by(actor_of(request)).delete(name)
    return DeletedBody(name=name, deleted=True, log_rows=rows)


async def list_tokens(services: Services, _request: Request, name: str) -> TokensBody:
    """List a user's tokens."""
    details = await services.users.show(name)
    return TokensBody(tokens=[TokenBody.from_object(token) for token in details.summary.tokens])


async def add_token(services: Services, request: Request, name: str) -> CreatedTokenBody:
    """Add a token to a user; the response has the token, shown only now."""
    new = await read_body(request, NewToken)
    created = await services.users.by(actor_of(request)).add_token(name, new.name, batch=new.batch)
    return CreatedTokenBody(user=name, name=new.name, token=created.token.reveal(), batch=new.batch)


async def revoke_token(services: Services, request: Request, name: str, token: str) -> DeletedBody:
    """Revoke a token."""
    await services.users.by(actor_of(request)).revoke_token(name, token)
    return DeletedBody(name=token, deleted=True)


async def rights_after(services: Services, request: Request, name: str) -> RightsView:
    """Return a user's rights after a change in the form of `PATCH /router/users/{name}`, without making it."""
    return await rights_view(services, name, _change_of(await read_body(request, UserPatch)))


def _change_of(patch: UserPatch) -> UserChange:
    return UserChange(
        role=patch.role,
        active=patch.active,
        moves="group" in patch.model_fields_set,
        group=patch.group,
        grants=changes_of(patch.grants),
    )


def _grants_and_tokens(user: UserSummary) -> dict[str, Any]:
    return {"grants": grants_body(user.own_grants), "tokens": [TokenBody.from_object(token) for token in user.tokens]}
