"""Rows of the users table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, insert, select, update
from sqlalchemy.engine import Connection

from ollama_router_server.storage.audit_log import AuditAction
from ollama_router_server.storage.dialect import give_room
from ollama_router_server.storage.identities import (
    TokenInfo,
    UserChange,
    UserDetails,
    UserFilter,
    UserPage,
    UserSummary,
)
from ollama_router_server.storage.identity_rows import (
    dump_grants,
    load_grants,
    page_by_name,
    require_group,
    require_user,
)
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_stats import requests_by_user, usage_of_user
from ollama_router_server.storage.log_writer import delete_empty, delete_oldest
from ollama_router_server.storage.request_log import select_records
from ollama_router_server.storage.schema import groups, memberships, request_log, token_usage, users
from ollama_router_server.storage.token_rows import token_infos

__all__ = ["action_of", "change_user", "delete_user", "join_group", "read_details", "read_page", "read_summaries"]

_LAST_REQUESTS = 10


def read_summaries(connection: Connection) -> tuple[UserSummary, ...]:
    """Read every user, ordered by name."""
    give_room(connection)
    rows = connection.execute(select(users).order_by(users.c.name)).all()
    return _summaries(connection, rows, every=True)


def read_page(connection: Connection, chosen: UserFilter, after: str | None, limit: int) -> UserPage:
    """Read a page of users by name, and the number of matches."""
    found = select(users).outerjoin(memberships, memberships.c.user_id == users.c.id).where(*_conditions(chosen))
    page = page_by_name(connection, found, users, after, limit)
    return UserPage(users=_summaries(connection, page.rows), next=page.next, matching=page.matching)


def _conditions(chosen: UserFilter) -> Iterator[ColumnElement[bool]]:
    if chosen.search:
        yield users.c.name.icontains(chosen.search, autoescape=True)
    if chosen.role is not None:
        yield users.c.role == chosen.role
    if chosen.active is not None:
        yield users.c.active == chosen.active
    if chosen.group is not None:
        yield memberships.c.group_id == select(groups.c.id).where(groups.c.name == chosen.group).scalar_subquery()


def read_details(connection: Connection, name: str) -> UserDetails:
    """Read one user with totals and the last requests, newest first.

    Raises:
        UnknownUser: the user does not exist.
    """
    row = require_user(connection, name)
    infos, names = token_infos(connection, [row.id]), _groups_of_users(connection, [row.id])
    usage, mean_ms = usage_of_user(connection, name)
    return UserDetails(
        summary=_summary(row, infos.get(row.id, ()), usage.requests, names.get(row.id)),
        errors=usage.errors,
        mean_ms=mean_ms,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        last_requests=select_records(connection, LogFilter(user=name), limit=_LAST_REQUESTS),
    )


def action_of(change: UserChange) -> AuditAction:
    """Return the audit action of a change of a user."""
    match change.active:
        case True:
            return "user.activate"
        case False:
            return "user.deactivate"
        case None:
            return "user.change"


def change_user(connection: Connection, name: str, change: UserChange, now: float) -> None:
    """Apply a change to a user.

    Raises:
        UnknownUser, UnknownGroup: the user or group does not exist.
        InvalidGrants: the resulting grants are invalid.
    """
    row = require_user(connection, name)
    changed = change.apply(_summary(row, (), 0, None))
    values: dict[str, Any] = {"role": changed.role, "active": changed.active, "updated_at": now}
    if change.grants:  # else text that this release cannot read would be overwritten
        values["grants"] = dump_grants(changed.own_grants)
    if change.moves:
        join_group(connection, row.id, changed.group)
    connection.execute(update(users).where(users.c.id == row.id).values(values))


def delete_user(connection: Connection, name: str) -> int:
    """Delete a user with tokens, counts and log rows; return how many log rows were deleted.

    Raises:
        UnknownUser: the user does not exist.
    """
    row = require_user(connection, name)
    connection.execute(delete(users).where(users.c.id == row.id))
    connection.execute(delete(token_usage).where(token_usage.c.user == name))
    gone = 0
    while deleted := delete_oldest(connection, request_log.c.user == name):
        gone += deleted
    if gone:
        delete_empty(connection)
    return gone


def join_group(connection: Connection, user_id: int, group: str | None) -> None:
    """Make a user a member of one group, or of none.

    Raises:
        UnknownGroup: the group does not exist.
    """
    connection.execute(delete(memberships).where(memberships.c.user_id == user_id))
    if group is not None:
        row = require_group(connection, group)
        connection.execute(insert(memberships).values(user_id=user_id, group_id=row.id))


def _groups_of_users(connection: Connection, ids: Sequence[int] | None = None) -> dict[int, str]:
    joined = select(memberships.c.user_id, groups.c.name).join(groups, groups.c.id == memberships.c.group_id)
    if ids is not None:
        joined = joined.where(memberships.c.user_id.in_(ids))
    return {row.user_id: row.name for row in connection.execute(joined)}


def _summaries(connection: Connection, rows: Sequence[Row[Any]], *, every: bool = False) -> tuple[UserSummary, ...]:
    """Read the summaries of these users, or of all: with `every`, queries do not list thousands of names."""
    ids, names = (None, None) if every else ([row.id for row in rows], [row.name for row in rows])
    infos, joined = token_infos(connection, ids), _groups_of_users(connection, ids)
    counts = requests_by_user(connection, names)
    return tuple(_summary(row, infos.get(row.id, ()), counts.get(row.name, 0), joined.get(row.id)) for row in rows)


def _summary(row: Row[Any], infos: tuple[TokenInfo, ...], requests: int, group: str | None) -> UserSummary:
    return UserSummary(
        name=row.name,
        role=row.role,
        active=row.active,
        created_at=row.created_at,
        requests=requests,
        tokens=infos,
        group=group,
        own_grants=load_grants(row.grants),
    )
