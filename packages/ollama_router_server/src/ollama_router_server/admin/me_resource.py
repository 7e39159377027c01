"""A user's own data and actions: `GET /router/me`, and `checks`, `usage`, `tokens` below it."""

from __future__ import annotations

from typing import Final

from falcon.asgi import Request

from ollama_router_core.errors import Forbidden
from ollama_router_server.admin.json_bodies import actor_of, read_body, user_of
from ollama_router_server.admin.request_bodies import NewToken
from ollama_router_server.admin.response_bodies import CreatedTokenBody, DeletedBody
from ollama_router_server.admin.token_access import address_of
from ollama_router_server.admin.views.models import model_views
from ollama_router_server.admin.views.setup_checks import ChecksView, ClientAccess, checks_view
from ollama_router_server.admin.views.usage import MyUsageBody, currency_of, day_lines, usage_lines
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import User
from ollama_router_server.storage.log_filter import LogFilter

__all__ = ["add_my_token", "find_checks", "my_checks", "my_usage", "revoke_my_token", "show_my_usage"]

_DAY: Final = 86_400.0
_MOST_TOKENS: Final = 20
_CHECKED_DAYS: Final = 7


async def my_usage(services: Services, user: User, days: int) -> MyUsageBody:
    """Add up a user's requests of the last `days` days."""
    since = services.clock.wall() - days * _DAY
    chosen = LogFilter(user=user.name, since=since)
    stats, hours = await services.request_log.stats(chosen), await services.request_log.history(chosen)
    return MyUsageBody.from_object(
        stats,
        since=since,
        currency=currency_of(services.config),
        by_model=usage_lines(stats.by_model, "model"),
        by_day=day_lines(hours),
    )


def find_checks(services: Services, request: Request, user: User, usage: MyUsageBody) -> ChecksView:
    """Check whether the requesting user can get a response, as seen from the request's origin."""
    access = ClientAccess(
        host=(request.get_header("host") or "").rpartition(":")[0],
        address=address_of(services, request),
        encrypted=request.scheme == "https",
        answered=usage.requests - usage.errors,
    )
    allowed = None if user.role == "viewer" else model_views(services, user.grants).models
    return checks_view(services, allowed, access)


async def show_my_usage(services: Services, request: Request) -> MyUsageBody:
    """Return the requesting user's own usage: `[?days=N]`."""
    days = request.get_param_as_int("days", min_value=1, max_value=366) or 7
    return await my_usage(services, user_of(request), days)


async def my_checks(services: Services, request: Request) -> ChecksView:
    """Check whether the requesting user can get a response; no server is queried."""
    user = user_of(request)
    return find_checks(services, request, user, await my_usage(services, user, _CHECKED_DAYS))


async def add_my_token(services: Services, request: Request) -> CreatedTokenBody:
    """Add a token to the requesting user, shown only once; a batch token can only create batch tokens."""
    user, new = user_of(request), await read_body(request, NewToken)
    if len((await services.users.show(user.name)).summary.tokens) >= _MOST_TOKENS:
        raise Forbidden(f"a user has at most {_MOST_TOKENS} tokens; revoke one first")
    batch = new.batch or user.batch_token  # else a batch token could raise its own priority
    created = await services.users.by(actor_of(request)).add_token(user.name, new.name, batch=batch)
    return CreatedTokenBody(user=user.name, name=new.name, token=created.token.reveal(), batch=batch)


async def revoke_my_token(services: Services, request: Request, token: str) -> DeletedBody:
    """Revoke one of the requesting user's own tokens; the sessions that it opened end."""
    await services.users.by(actor_of(request)).revoke_token(user_of(request).name, token)
    return DeletedBody(name=token, deleted=True)
