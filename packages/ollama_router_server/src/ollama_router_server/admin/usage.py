"""Totals of the request log: `GET /router/usage`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from falcon.asgi import Request, Response

from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.access import ADMINS, READERS
from ollama_router_server.admin.bodies import answer, moment
from ollama_router_server.admin.history import asked_day
from ollama_router_server.admin.shapes import ModelUserLine, ModelUsersBody
from ollama_router_server.admin.usage_groups import groups_of_members
from ollama_router_server.admin.views.usage import BY, ORDERS, UsageAsked, UsageBody, usage_view
from ollama_router_server.services import Services
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_stats import HourRow

__all__ = ["ModelUsersResource", "UsageResource", "find_usage", "one_of", "usage_asked"]

Word = TypeVar("Word", bound=str)
_DAY = 86_400.0
_MOST_DAYS = 366
_WEEK = 7 * _DAY


async def find_usage(services: Services, asked: UsageAsked) -> tuple[UsageBody, tuple[HourRow, ...]]:
    """What requests add up to, and the same by hour."""
    log, chosen = services.request_log, LogFilter(user=asked.user, since=asked.since, before=asked.before)
    kinds = BY if asked.by is None else (asked.by,)
    # At once, in a thread each: the database counts without Python's lock.
    stats, soon, hours, groups = await asyncio.gather(
        log.stats(chosen), log.first_tokens(chosen, kinds=kinds), log.history(chosen), services.groups.list()
    )
    view = usage_view(stats, hours, asked, config=services.config, group_of=groups_of_members(groups), soon=soon)
    return view, hours


def one_of(request: Request, name: str, words: Sequence[Word], default: Word) -> Word:
    """A parameter that has one of these values.

    Raises:
        InvalidBody: it has another.
    """
    asked = request.get_param(name) or default
    for word in words:
        if word == asked:
            return word
    raise InvalidBody(f"{name} must be one of {', '.join(words)}")


def usage_asked(request: Request, now: float) -> UsageAsked:
    """What a page is asked for: the last `days`, or whole days (UTC) from one to another.

    Raises:
        InvalidBody: a day is none or to come, the last is before the first, or they are more than 366.
    """
    order = one_of(request, "order", ORDERS, "requests")
    days = request.get_param_as_int("days", min_value=1, max_value=_MOST_DAYS)
    if days is not None or not (request.get_param("from") or request.get_param("to")):
        return UsageAsked(since=now - (days or 7) * _DAY, order=order)
    (_, last), (_, first) = asked_day(request, now, "to"), asked_day(request, now, "from")
    first = first if request.get_param("from") else last
    if first > last:
        raise InvalidBody("from must not be after to")
    if last > now + _DAY:  # where it is tomorrow already
        raise InvalidBody("to must not be a day to come")
    if last + _DAY - first > _MOST_DAYS * _DAY:
        raise InvalidBody(f"ask for at most {_MOST_DAYS} days")
    return UsageAsked(since=first, before=last + _DAY, order=order)


class UsageResource:
    """`GET /router/usage[?since=&before=&user=&by=&order=]`: requests, tokens, GPU time and cost, and by what."""

    roles = READERS

    def __init__(self, services: Services) -> None:
        self._services = services

    async def on_get(self, request: Request, response: Response) -> None:
        """Answer the totals."""
        by = one_of(request, "by", BY, "user") if request.get_param("by") else None
        asked = UsageAsked(
            since=moment(request.get_param("since")),
            before=moment(request.get_param("before"), "before"),
            user=request.get_param("user"),
            order=one_of(request, "order", ORDERS, "requests"),
            by=by,
        )
        view, _ = await find_usage(self._services, asked)
        answer(response, view)


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
