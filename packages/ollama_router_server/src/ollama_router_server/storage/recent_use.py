"""Recent use of users: requests of a week, and the month's tokens that count for limits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct, field
from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.engine import Connection

from ollama_router_core.access.grants import Grants
from ollama_router_core.access.limits import first_day_of_month
from ollama_router_server.storage.identity_rows import load_grants
from ollama_router_server.storage.log_totals import week_of_users
from ollama_router_server.storage.schema import groups, log_totals, memberships, token_usage, users

__all__ = ["RecentUse", "read_recent_use"]


class RecentUse(Struct, kw_only=True):
    """A user's requests of the last seven days (UTC, with today), tokens by day of this month, and group's grants.

    Days count from 1970-01-01. Tokens are counted only for users with a token limit.
    """

    requests: int = 0
    tokens: dict[int, int] = field(default_factory=dict)
    group: Grants = field(default_factory=Grants)


def read_recent_use(connection: Connection, names: Sequence[str] | None, *, today: int) -> dict[str, RecentUse]:
    """Read the recent use of these users (a page, not thousands), or of all users if None."""
    found = defaultdict[str, RecentUse](RecentUse)

    def ours(name: ColumnElement[str]) -> ColumnElement[bool]:
        return true() if names is None else name.in_(names)

    totals = log_totals.c
    week = select(totals.name, func.sum(totals.requests)).where(week_of_users(today), ours(totals.name))
    for name, requests in connection.execute(week.group_by(totals.name)):
        found[name].requests = int(requests)
    counted = token_usage.c
    month = select(counted.user, counted.day, counted.tokens).where(
        ours(counted.user), counted.day >= first_day_of_month(today)
    )
    for name, day, tokens in connection.execute(month):
        found[name].tokens[int(day)] = int(tokens)
    granted = select(users.c.name, groups.c.grants).join(memberships, memberships.c.user_id == users.c.id)
    granted = granted.join(groups, groups.c.id == memberships.c.group_id).where(ours(users.c.name))
    for name, grants in connection.execute(granted):
        found[name].group = load_grants(grants)
    return found
