"""What everybody may see and do of oneself: `GET /router/me`, and `checks`, `usage`, `tokens` below it."""

from __future__ import annotations

from typing import Final

from falcon.asgi import Request, Response

from ollama_router_core.errors import Forbidden
from ollama_router_server.admin.json_bodies import actor_of, answer, read_body
from ollama_router_server.admin.request_bodies import NewToken
from ollama_router_server.admin.response_bodies import CreatedTokenBody, DeletedBody
from ollama_router_server.admin.token_access import EVERYBODY, address_of
from ollama_router_server.admin.views.me import me_view
from ollama_router_server.admin.views.models import model_views
from ollama_router_server.admin.views.setup_checks import Asked, ChecksView, checks_view
from ollama_router_server.admin.views.usage import MyUsageBody, currency_of, day_lines, usage_lines
from ollama_router_server.services import Services
from ollama_router_server.storage.identities import User
from ollama_router_server.storage.log_filter import LogFilter

__all__ = [
    "MeResource",
    "MyChecksResource",
    "MyTokenResource",
    "MyTokensResource",
    "MyUsageResource",
    "find_checks",
    "my_usage",
]

_DAY: Final = 86_400.0
_MOST_TOKENS: Final = 20
_CHECKED_DAYS: Final = 7


async def my_usage(services: Services, user: User, days: int) -> MyUsageBody:
    """Add up a user's requests of the last `days` days."""
    since = services.clock.wall() - days * _DAY
    chosen = LogFilter(user=user.name, since=since)
    stats, hours = await services.request_log.stats(chosen), await services.request_log.history(chosen)
    return MyUsageBody(
        since=since,
        requests=stats.requests,
        errors=stats.errors,
        prompt_tokens=stats.prompt_tokens,
        completion_tokens=stats.completion_tokens,
        cost_micros=stats.cost_micros,
        currency=currency_of(services.config),
        by_model=usage_lines(stats.by_model, "model"),
        by_day=day_lines(hours),
    )


def find_checks(services: Services, request: Request, user: User, usage: MyUsageBody) -> ChecksView:
    """Check what the asking user needs to get an answer, as seen from where the request came from."""
    asked = Asked(
        host=(request.get_header("host") or "").rpartition(":")[0],
        address=address_of(services, request),
        encrypted=request.scheme == "https",
        answered=usage.requests - usage.errors,
    )
    allowed = None if user.role == "viewer" else model_views(services, user.grants).models
    return checks_view(services, allowed, asked)


class MeResource:
    """`GET /router/me`: the role, rights and limits of the user who asks."""

    roles = EVERYBODY

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer the asking user."""
        answer(response, await me_view(self._services, request.context.user))


class MyUsageResource:
    """`GET /router/me/usage[?days=N]`."""

    roles = EVERYBODY

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer the asking user's own sums."""
        days = request.get_param_as_int("days", min_value=1, max_value=366) or 7
        answer(response, await my_usage(self._services, request.context.user, days))


class MyChecksResource:
    """`GET /router/me/checks`."""

    roles = EVERYBODY

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer the checks; no server is asked for them."""
        user: User = request.context.user
        usage = await my_usage(self._services, user, _CHECKED_DAYS)
        answer(response, find_checks(self._services, request, user, usage))


class MyTokensResource:
    """`POST /router/me/tokens`: one more token for oneself."""

    roles = EVERYBODY

    def __init__(self, services: Services) -> None:
        self._users = services.users

    async def on_post(self, request: Request, response: Response) -> None:
        """Add it; the response has it, shown only now. Asked for with a token of batch priority it is one, too."""
        user: User = request.context.user
        new = await read_body(request, NewToken)
        if len((await self._users.show(user.name)).summary.tokens) >= _MOST_TOKENS:
            raise Forbidden(f"a user has at most {_MOST_TOKENS} tokens; revoke one first")
        batch = new.batch or user.batch_token  # else whoever holds such a token would raise its priority
        created = await self._users.by(actor_of(request)).add_token(user.name, new.name, batch=batch)
        shown = CreatedTokenBody(user=user.name, name=new.name, token=created.token.reveal(), batch=batch)
        answer(response, shown, status=201)


class MyTokenResource:
    """`DELETE /router/me/tokens/{token}`."""

    roles = EVERYBODY

    def __init__(self, services: Services) -> None:
        self._users = services.users

    async def on_delete(self, request: Request, response: Response, token: str) -> None:
        """Revoke one of the asking user's own; with it end the sessions that it opened."""
        user: User = request.context.user
        await self._users.by(actor_of(request)).revoke_token(user.name, token)
        answer(response, DeletedBody(name=token, deleted=True))
