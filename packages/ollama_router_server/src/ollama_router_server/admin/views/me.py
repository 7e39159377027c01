"""What a user is shown of oneself: role, rights, what is left of the limits."""

from __future__ import annotations

from typing import Literal

from ollama_router_core.access.grants import grants_to_json
from ollama_router_core.access.limits import Allowance
from ollama_router_server.admin.shapes import GrantsBody, TokenBody
from ollama_router_server.admin.views.models import model_views
from ollama_router_server.admin.views.view import View
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import Role, User

__all__ = ["LimitView", "MeView", "me_view"]


class LimitView(View):
    """What is left of a limit; after `reset_seconds` there is more (all of it, for tokens)."""

    kind: Literal["requests", "tokens"]
    limit: int
    remaining: int
    reset_seconds: float


class MeView(View):
    """The user behind a token or a session. `grants` include those of the group."""

    name: str
    role: Role
    grants: GrantsBody
    limits: list[LimitView]
    models: int
    tokens: list[TokenBody]


async def me_view(services: Services, user: User) -> MeView:
    """What a user is shown of oneself."""
    standing = await services.usage_limits.standing_now(user)
    details = await services.users.show(user.name)
    tokens = [
        TokenBody(name=one.name, lookup=one.lookup, created_at=one.created_at, last_used_at=one.last_used_at)
        for one in details.summary.tokens
    ]
    limits = (_limit("requests", standing.requests), _limit("tokens", standing.tokens))
    return MeView(
        name=user.name,
        role=user.role,
        grants=GrantsBody.model_validate(grants_to_json(user.grants), strict=False),
        limits=[limit for limit in limits if limit is not None],
        models=len(model_views(services, user.grants).models),
        tokens=tokens,
    )


def _limit(kind: Literal["requests", "tokens"], left: Allowance | None) -> LimitView | None:
    if left is None:
        return None
    return LimitView(kind=kind, limit=left.limit, remaining=left.remaining, reset_seconds=round(left.reset, 1))
