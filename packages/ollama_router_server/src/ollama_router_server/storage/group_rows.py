"""Rows of the groups table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.engine import Connection

from ollama_router_server.storage.identities import Group, GroupPage, GroupSummary
from ollama_router_server.storage.identity_rows import load_grants, page_by_name, require_group
from ollama_router_server.storage.log_totals import week_of_users
from ollama_router_server.storage.schema import groups, log_totals, memberships, users

__all__ = ["read_group", "read_group_page", "read_groups"]


def read_groups(connection: Connection) -> tuple[Group, ...]:
    """Read every group with its members, both ordered by name."""
    joined = (
        select(memberships.c.group_id, users.c.name)
        .join(users, users.c.id == memberships.c.user_id)
        .order_by(users.c.name)
    )
    rows = connection.execute(select(groups).order_by(groups.c.name)).all()
    members: dict[int, list[str]] = {}
    for group_id, user in connection.execute(joined):
        members.setdefault(group_id, []).append(user)
    return tuple(_group(row, members.get(row.id, ())) for row in rows)


def read_group(connection: Connection, name: str) -> Group:
    """Read one group with its members, ordered by name.

    Raises:
        UnknownGroup: the group does not exist.
    """
    row = require_group(connection, name)
    members = select(users.c.name).join(memberships, memberships.c.user_id == users.c.id)
    found = connection.execute(members.where(memberships.c.group_id == row.id).order_by(users.c.name))
    return _group(row, found.scalars())


def _group(row: Row[Any], members: Iterable[str]) -> Group:
    grants = load_grants(row.grants)
    return Group(name=row.name, grants=grants, members=tuple(members), created_at=row.created_at)


def read_group_page(
    connection: Connection, search: str | None, after: str | None, limit: int, *, today: int
) -> GroupPage:
    """Read a page of groups, ordered by name, and the number of matches; `today` is days since 1970-01-01."""
    found = select(groups)
    if search:
        found = found.where(groups.c.name.icontains(search, autoescape=True))
    page = page_by_name(connection, found, groups, after, limit)
    ids = [row.id for row in page.rows]
    members, week = _members(connection, ids), _week(connection, ids, today)
    return GroupPage(
        groups=tuple(
            GroupSummary(
                name=row.name,
                grants=load_grants(row.grants),
                members=members.get(row.id, 0),
                requests=week.get(row.id, (0, 0))[0],
                tokens=week.get(row.id, (0, 0))[1],
                created_at=row.created_at,
            )
            for row in page.rows
        ),
        next=page.next,
        matching=page.matching,
    )


def _members(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    ours = select(memberships.c.group_id, func.count()).where(memberships.c.group_id.in_(ids))
    return {int(group): int(count) for group, count in connection.execute(ours.group_by(memberships.c.group_id))}


def _week(connection: Connection, ids: Sequence[int], today: int) -> dict[int, tuple[int, int]]:
    """Sum a week's requests and tokens by group, by the key of each member's daily totals."""
    totals = log_totals.c
    tokens = func.sum(totals.prompt_tokens + totals.completion_tokens)
    query = (
        select(memberships.c.group_id, func.sum(totals.requests), tokens)
        .join(users, users.c.id == memberships.c.user_id)
        .join(log_totals, totals.name == users.c.name)
        .where(memberships.c.group_id.in_(ids), week_of_users(today))
        .group_by(memberships.c.group_id)
    )
    return {int(group): (int(requests), int(used)) for group, requests, used in connection.execute(query)}
