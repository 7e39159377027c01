"""Totals of the request log: `GET /router/usage`."""

from __future__ import annotations

from dataclasses import asdict

from falcon.asgi import Request, Response

from ollama_router_server.admin.access import ADMINS, READERS
from ollama_router_server.admin.bodies import answer, moment
from ollama_router_server.admin.shapes import ModelUserLine, ModelUsersBody, UsageBody, UsageLine
from ollama_router_server.admin.usage_groups import groups_of_members, usage_by_group
from ollama_router_server.services import Services
from ollama_router_server.storage.log_filter import LogFilter

__all__ = ["ModelUsersResource", "UsageResource"]

_WEEK = 7 * 86_400.0


class UsageResource:
    """`GET /router/usage[?since=&before=&user=]`: requests, errors and tokens by user, group, model and server."""

    roles = READERS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer the totals."""
        since = moment(request.get_param("since"))
        before = moment(request.get_param("before"), "before")
        chosen = LogFilter(user=request.get_param("user"), since=since, before=before)
        stats = await self._services.request_log.stats(chosen)
        groups = usage_by_group(stats.by_user, groups_of_members(await self._services.groups.list()))
        told = asdict(stats)
        del told["ttft_ms"], told["total_ms"]
        answer(response, UsageBody(since=since, by_group=[UsageLine(**asdict(row)) for row in groups], **told))


class ModelUsersResource:
    """`GET /router/usage/users?model=NAME`: who used a model in the last seven days, for whoever deletes it."""

    roles = ADMINS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer the users, those with most requests first."""
        model = str(request.get_param("model", required=True))
        since = self._services.clock.wall() - _WEEK
        found = await self._services.request_log.users_of_model(model, since=since)
        users = [ModelUserLine(name=name, requests=requests) for name, requests in found]
        answer(response, ModelUsersBody(model=model, since=since, users=users))
