"""A user's own view: role, rights, and what is left of the limits."""

from __future__ import annotations

from typing import Literal, get_args

from falcon.asgi import Request

from ollama_router_core.access.grants import Grants
from ollama_router_core.access.limits import Allowance, LimitName
from ollama_router_server.admin.grant_bodies import grants_body
from ollama_router_server.admin.json_bodies import user_of
from ollama_router_server.admin.request_bodies import GrantsBody
from ollama_router_server.admin.response_bodies import TokenBody
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.my_models import MyModelView, my_models
from ollama_router_server.admin.views.usage import currency_of
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import Role

__all__ = ["MeView", "MyLimitView", "me_view"]


class MyLimitView(View):
    """A limit: what is left, seconds until more is available (all of it, for tokens), and whose grant it is.

    An unset limit has the origin `none`, and no numbers.
    """

    name: LimitName
    origin: Literal["own", "group", "none"]
    limit: int | None = None
    remaining: int | None = None
    reset_seconds: float | None = None


class MeView(View):
    """The user of a token or session. `grants` include the group's; prices are in `currency`."""

    name: str
    role: Role
    group: str | None
    grants: GrantsBody
    limits: list[MyLimitView]
    currency: str | None
    models: list[MyModelView]
    tokens: list[TokenBody]


async def me_view(services: Services, request: Request) -> MeView:
    """Return the requesting user's own view."""
    user = user_of(request)
    left = await services.usage_limits.allowances_now(user)
    summary = (await services.users.show(user.name)).summary
    return MeView.from_object(
        user,
        grants=grants_body(user.grants),
        limits=[_limit(name, left.get(name), summary.own_grants) for name in get_args(LimitName)],
        currency=currency_of(services.config),
        models=await my_models(services, user),
        tokens=[TokenBody.from_object(one) for one in summary.tokens],
    )


def _limit(name: LimitName, left: Allowance | None, own: Grants) -> MyLimitView:
    if left is None:
        return MyLimitView(name=name, origin="none")
    return MyLimitView(
        name=name,
        origin="group" if getattr(own, name) is None else "own",
        limit=left.limit,
        remaining=left.remaining,
        reset_seconds=round(left.reset, 1),
    )
