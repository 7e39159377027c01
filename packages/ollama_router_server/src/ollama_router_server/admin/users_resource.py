"""Users and tokens over HTTP: what `orouter users` does."""

from __future__ import annotations

from typing import Any, Final, cast, get_args

from falcon.asgi import Request, Response

from ollama_router_core.access.grants import combine_grants
from ollama_router_core.access.limits import day_of, nearest_end
from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.grant_bodies import changes_of, grants_body, grants_of
from ollama_router_server.admin.invitations_resource import invite
from ollama_router_server.admin.json_bodies import actor_of, answer, read_body
from ollama_router_server.admin.request_bodies import NewToken, NewUser, UserPatch
from ollama_router_server.admin.response_bodies import (
    CreatedTokenBody,
    CreatedUserBody,
    DeletedBody,
    ListedUserBody,
    TokensBody,
    UserDetailsBody,
    UsersBody,
    token_body,
)
from ollama_router_server.admin.token_access import ADMINS
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import (
    Role,
    UserChange,
    UserFilter,
    UserSummary,
)
from ollama_router_server.storage.recent_use import RecentUse

__all__ = [
    "TokenResource",
    "TokensResource",
    "UserResource",
    "UsersResource",
    "change_of",
    "list_users",
]

_MOST: Final = 200


class UsersResource:
    """`GET` and `POST /router/users`."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services
        self._users = services.users

    async def on_get(self, request: Request, response: Response) -> None:
        """List users by name, a page at a time."""
        answer(response, await list_users(self._services, request))

    async def on_post(self, request: Request, response: Response) -> None:
        """Create a user; the response has the token, or a link for whoever is invited, shown only now."""
        new = await read_body(request, NewUser)
        users, grants = self._users.by(actor_of(request)), grants_of(new.grants)
        if new.invite:
            await users.create_without_token(new.name, role=new.role, group=new.group, grants=grants)
            body = CreatedUserBody(
                name=new.name, role=new.role, token=None, invitation=await invite(self._services, request, new.name)
            )
        else:
            created = await users.create(new.name, role=new.role, group=new.group, grants=grants)
            body = CreatedUserBody(name=created.user, role=created.role, token=created.token.reveal())
        answer(response, body, status=201)


async def list_users(services: Services, request: Request) -> UsersBody:
    """List the page of users that the query asks for.

    Raises:
        InvalidBody: a parameter cannot be meant.
    """
    for name, value in request.params.items():
        if isinstance(value, list):
            raise InvalidBody(f"{name} is given more than once")
    role, active = request.get_param("role") or None, request.get_param("active") or None
    if role is not None and role not in get_args(Role):
        raise InvalidBody(f"role must be one of {', '.join(get_args(Role))}")
    if active not in {None, "true", "false"}:
        raise InvalidBody("active must be true or false")
    chosen = UserFilter(
        search=request.get_param("search") or None,
        role=cast("Role | None", role),
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
    return ListedUserBody(
        **_user(user),
        requests_7d=use.requests,
        tokens_used=None if nearest is None else nearest[1].limit - nearest[1].remaining,
        tokens_limit=None if nearest is None else nearest[1].limit,
        tokens_per=None if nearest is None else nearest[0],
        last_seen=max((token.last_used_at for token in user.tokens if token.last_used_at is not None), default=None),
        expires_at=grants.expires_at,
    )


class UserResource:
    """`GET`, `PATCH` and `DELETE /router/users/{name}`."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._users = services.users

    async def on_get(self, _request: Request, response: Response, name: str) -> None:
        """Show one user with totals."""
        await self._show(response, name)

    async def on_patch(self, request: Request, response: Response, name: str) -> None:
        """Change a user, completely or not at all."""
        change = change_of(await read_body(request, UserPatch))
        await self._users.by(actor_of(request)).change(name, change)
        await self._show(response, name)

    async def on_delete(self, request: Request, response: Response, name: str) -> None:
        """Delete a user with tokens and log rows."""
        rows = await self._users.by(actor_of(request)).delete(name)
        answer(response, DeletedBody(name=name, deleted=True, log_rows=rows))

    async def _show(self, response: Response, name: str) -> None:
        details = await self._users.show(name)
        figures = {
            "errors": details.errors,
            "mean_ms": details.mean_ms,
            "prompt_tokens": details.prompt_tokens,
            "completion_tokens": details.completion_tokens,
        }
        answer(response, UserDetailsBody(**_user(details.summary), **figures))


class TokensResource:
    """`GET` and `POST /router/users/{name}/tokens`."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._users = services.users

    async def on_get(self, _request: Request, response: Response, name: str) -> None:
        """List a user's tokens."""
        details = await self._users.show(name)
        answer(response, TokensBody(tokens=[token_body(token) for token in details.summary.tokens]))

    async def on_post(self, request: Request, response: Response, name: str) -> None:
        """Add a token to a user; the response has it, shown only now."""
        new = await read_body(request, NewToken)
        created = await self._users.by(actor_of(request)).add_token(name, new.name, batch=new.batch)
        shown = CreatedTokenBody(user=name, name=new.name, token=created.token.reveal(), batch=new.batch)
        answer(response, shown, status=201)


class TokenResource:
    """`DELETE /router/users/{name}/tokens/{token}`."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._users = services.users

    async def on_delete(self, request: Request, response: Response, name: str, token: str) -> None:
        """Revoke a token."""
        await self._users.by(actor_of(request)).revoke_token(name, token)
        answer(response, DeletedBody(name=token, deleted=True))


def change_of(patch: UserPatch) -> UserChange:
    """Return the change that a body describes."""
    return UserChange(
        role=patch.role,
        active=patch.active,
        moves="group" in patch.model_fields_set,
        group=patch.group,
        grants=changes_of(patch.grants),
    )


def _user(user: UserSummary) -> dict[str, Any]:
    return {
        "name": user.name,
        "role": user.role,
        "active": user.active,
        "group": user.group,
        "grants": grants_body(user.own_grants),
        "requests": user.requests,
        "created_at": user.created_at,
        "tokens": [token_body(token) for token in user.tokens],
    }
