"""Groups: grants shared by several users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, insert, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ollama_router_core.access.grants import Grants, grants_to_json
from ollama_router_core.access.limits import day_of
from ollama_router_server.storage.audit_log import ROUTER, Actor, AuditAction, AuditEntry
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.group_rows import read_group, read_group_page, read_groups
from ollama_router_server.storage.identities import DuplicateName, Group, GroupInUse, GroupPage, changed_grants
from ollama_router_server.storage.identity_rows import (
    check_name,
    dump_grants,
    identity_change,
    load_grants,
    require_group,
)
from ollama_router_server.storage.schema import groups
from ollama_router_server.system import Clock

__all__ = ["GroupStore"]


class GroupStore:
    """Groups of one database; `actor` is the author of changes, for the audit trail."""

    def __init__(self, database: Database, *, clock: Clock, actor: Actor = ROUTER) -> None:
        self._database = database
        self._clock = clock
        self._actor = actor

    def by(self, actor: Actor) -> GroupStore:
        """Return the same groups with another author."""
        return GroupStore(self._database, clock=self._clock, actor=actor)

    async def create(self, name: str, grants: Grants | None = None) -> None:
        """Add a group.

        Raises:
            InvalidUserName: the name breaks the rules for names.
            DuplicateName: the group exists.
        """
        check_name(name)
        now = self._clock.wall()
        row = {"name": name, "grants": dump_grants(grants or Grants()), "created_at": now, "updated_at": now}
        entry = self._entry("group.create", name, grants=grants_to_json(grants or Grants()))
        statement = insert(groups).values(row)
        try:
            await identity_change(self._database, entry, lambda connection: connection.execute(statement))
        except IntegrityError:
            raise DuplicateName(f"there is a group named {name!r} already") from None

    async def list(self) -> tuple[Group, ...]:
        """Return every group with its members, by name."""
        return await self._database.read(read_groups)

    async def page(self, *, search: str | None = None, after: str | None = None, limit: int) -> GroupPage:
        """Return at most `limit` groups by name, after the name `after`; `search` is a substring of the name."""
        today = day_of(self._clock.wall())
        return await self._database.read(read_group_page, search, after, limit, today=today)

    async def show(self, name: str) -> Group:
        """Return one group.

        Raises:
            UnknownGroup: the group does not exist.
        """
        return await self._database.read(read_group, name)

    async def set_grants(self, name: str, changes: Mapping[str, Any]) -> Grants:
        """Change some fields of a group's grants, as JSON values; None unsets a field. Return the new grants.

        Raises:
            UnknownGroup: the group does not exist.
            InvalidGrants: the result is invalid; nothing was changed.
        """
        now = self._clock.wall()

        def change(connection: Connection) -> Grants:
            row = require_group(connection, name)
            grants = changed_grants(load_grants(row.grants), changes)
            values = {"grants": dump_grants(grants), "updated_at": now}
            connection.execute(update(groups).where(groups.c.id == row.id).values(values))
            return grants

        return await identity_change(self._database, self._entry("group.change", name, grants=dict(changes)), change)

    async def delete(self, name: str) -> None:
        """Remove a group without members.

        Raises:
            UnknownGroup: the group does not exist.
            GroupInUse: the group has members, who would lose its limits.
        """

        def remove(connection: Connection) -> None:
            row = require_group(connection, name)
            connection.execute(delete(groups).where(groups.c.id == row.id))

        try:
            await identity_change(self._database, self._entry("group.delete", name), remove)
        except IntegrityError:
            raise GroupInUse(f"{name} has members; move them first: orouter users set NAME --group OTHER") from None

    def _entry(self, action: AuditAction, name: str, **detail: Any) -> AuditEntry:
        return AuditEntry(at=self._clock.wall(), actor=self._actor, action=action, subject=name, detail=detail)
