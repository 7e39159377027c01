"""Totals of the request log: `GET /router/usage`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from falcon.asgi import Request

from ollama_router_core.errors import InvalidBody
from ollama_router_server.admin.query_parameters import read_choice, read_day, read_moment
from ollama_router_server.admin.response_bodies import ModelUserLine, ModelUsersBody
from ollama_router_server.admin.usage_groups import groups_of_members, usage_by_group
from ollama_router_server.admin.views.usage import BY, ORDERS, UsageBody, UsageQuery, usage_view
from ollama_router_server.admin.views.usage_steps import STACKS, StackBy, UsageStep, usage_steps
from ollama_router_server.services import Services
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_series import LogSeries
from ollama_router_server.storage.log_stats import HourRow, LogStats
from ollama_router_server.storage.log_totals import DAY, HOUR

__all__ = [
    "BUCKETS",
    "FoundUsage",
    "answer_usage",
    "find_steps",
    "find_usage",
    "read_usage_range",
    "users_of_model",
]

_DAY = 86_400.0
_MOST_DAYS = 366
_WEEK = 7 * _DAY
_APART = 4
_LINES = 100
BUCKETS: Final = {"hour": HOUR, "day": DAY}
"""Seconds per step."""


class FoundUsage(NamedTuple):
    """Usage as a view, its statistics by name and by hour, and the group of each member."""

    view: UsageBody
    stats: LogStats
    hours: tuple[HourRow, ...]
    group_of: Mapping[str, str]


async def find_usage(services: Services, query: UsageQuery) -> FoundUsage:
    """Return the usage that a query selects."""
    log, chosen = services.request_log, LogFilter(user=query.user, since=query.since, before=query.before)
    kinds = BY if query.by is None else (query.by,)
    # In parallel, a thread each: the database computes without the GIL.
    stats, soon, hours, groups = await asyncio.gather(
        log.stats(chosen), log.first_tokens(chosen, kinds=kinds), log.history(chosen), services.groups.list()
    )
    group_of = groups_of_members(groups)
    view = usage_view(stats, hours, query, config=services.config, group_of=group_of, soon=soon)
    return FoundUsage(view, stats, hours, group_of)


async def find_steps(services: Services, found: FoundUsage, by: StackBy, step: int) -> list[UsageStep]:
    """Split the usage by hour or day (`step` seconds), with the four names that have most requests listed separately.

    Raises:
        StorageUnavailable: the database cannot answer.
    """
    view, stats, hours, group_of = found
    known = {"user": stats.by_user, "model": stats.by_model}.get(by, stats.by_server)
    if by == "group":
        known = usage_by_group(stats.by_user, group_of)
    hosts = services.config.external_hosts
    names = tuple(one.name for one in known if one.name and (by != "host" or one.name in hosts))[:_APART]
    now = services.clock.wall()
    named = await _named_steps(services, view, names, by, step)
    first = hours[0].start if hours else now
    since, until = view.since if view.since is not None else first, view.before if view.before is not None else now
    return usage_steps(hours, named, since=since, until=max(since, until - 1), step=step)


async def _named_steps(
    services: Services, view: UsageBody, names: tuple[str, ...], by: StackBy, step: int
) -> dict[str, dict[int, int]]:
    """Count the requests of each name by the start of the hour; for groups by the start of the step."""
    if by == "group":
        since, before = view.since or 0.0, services.clock.wall() if view.before is None else view.before
        return await services.request_log.group_steps(names, since=since, before=before, step=step)
    named: dict[str, dict[int, int]] = {name: {} for name in names}
    dimension = "server" if by == "host" else by
    chosen = LogSeries(dimension=dimension, step=HOUR, since=view.since, before=view.before, names=names)
    async for rows in services.request_log.series(chosen):
        for row in rows:
            if row.name is not None:
                named[row.name][row.start] = row.requests
    return named


def read_usage_range(request: Request, now: float) -> UsageQuery:
    """Parse the time range of the usage page: the last `days`, or whole days (UTC) `from` .. `to`.

    Raises:
        InvalidBody: a day is invalid or in the future, `from` is after `to`, or the range exceeds 366 days.
    """
    order = read_choice(request, "order", ORDERS) or "requests"
    days = request.get_param_as_int("days", min_value=1, max_value=_MOST_DAYS)
    if days is not None or not (request.get_param("from") or request.get_param("to")):
        return UsageQuery(since=now - (days or 7) * _DAY, order=order, limit=_LINES)
    (_, last), (_, first) = read_day(request, now, "to"), read_day(request, now, "from")
    first = first if request.get_param("from") else last
    if first > last:
        raise InvalidBody("from must not be after to")
    if last > now + _DAY:  # the next day may have started in the user's time zone
        raise InvalidBody("to must not be in the future")
    if last + _DAY - first > _MOST_DAYS * _DAY:
        raise InvalidBody(f"the range must not exceed {_MOST_DAYS} days")
    return UsageQuery(since=first, before=last + _DAY, order=order, limit=_LINES)


async def answer_usage(services: Services, request: Request) -> UsageBody:
    """Return usage totals, and lists by dimension: `[?since=&before=&user=&by=&order=&limit=&bucket=]`.

    `bucket` (`hour` or `day`) adds steps, for all users; `by` is then any dimension but day, and group by hour for at
    most 7 days. The parts of steps include the whole hour of `before`.
    """
    query = UsageQuery(
        since=read_moment(request, "since"),
        before=read_moment(request, "before"),
        user=request.get_param("user"),
        order=read_choice(request, "order", ORDERS) or "requests",
        by=read_choice(request, "by", BY),
        limit=request.get_param_as_int("limit", min_value=1),
    )
    stack = _stack(request, query, services.clock.wall())
    found = await find_usage(services, query)
    if stack is None:
        return found.view
    return found.view.model_copy(update={"steps": await find_steps(services, found, *stack)})


def _stack(request: Request, query: UsageQuery, now: float) -> tuple[StackBy, int] | None:
    bucket = read_choice(request, "bucket", BUCKETS)
    if bucket is None:
        return None
    step, by = BUCKETS[bucket], read_choice(request, "by", STACKS) or "model"
    if query.user is not None:
        raise InvalidBody("bucket cannot be combined with user")
    if query.since is None or (query.before or now) - query.since > _MOST_DAYS * _DAY:
        raise InvalidBody(f"bucket needs since, and a range of at most {_MOST_DAYS} days")
    if by == "group" and step == HOUR and (query.before or now) - query.since > _WEEK:
        raise InvalidBody("bucket=hour by group needs a range of at most 7 days")
    return by, step


async def users_of_model(services: Services, request: Request) -> ModelUsersBody:
    """List the users of a model in the last seven days, most requests first, as a check before its deletion."""
    model = str(request.get_param("model", required=True))
    since = services.clock.wall() - _WEEK
    found = await services.request_log.users_of_model(model, since=since)
    users = [ModelUserLine(name=name, requests=requests) for name, requests in found]
    return ModelUsersBody(model=model, since=since, users=users)
