"""The audit trail: the author, time, origin and content of each change.

A change of users, tokens or groups writes its entry in the same transaction. Entries contain no tokens or digests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import structlog
from msgspec import Struct
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.schema import audit_log
from ollama_router_server.system import Clock

__all__ = [
    "ROUTER",
    "Actor",
    "AuditAction",
    "AuditEntry",
    "AuditFilter",
    "AuditLog",
    "Via",
    "actions_of",
    "insert_entry",
]

AuditAction = Literal[
    "user.create",
    "user.change",
    "user.activate",
    "user.deactivate",
    "user.delete",
    "user.import",
    "user.invite",
    "user.uninvite",
    "user.sign_out",
    "token.create",
    "token.replace",
    "token.revoke",
    "group.create",
    "group.change",
    "group.delete",
    "server.drain",
    "server.undrain",
    "request.cancel",
    "operation.begin",
    "operation.cancel",
    "config.reload",
    "db.restore",
    "log.delete",
]
Via = Literal["cli", "http", "console", "file", "signal", "start"]

_log = structlog.get_logger("audit")


class Actor(Struct, frozen=True):
    """The author of a change: a user over HTTP or on the console, a system account on the command line, or the router.

    `address` is the client's address, or the name of the machine on which the command line ran.
    """

    name: str
    via: Via
    address: str | None = None


ROUTER = Actor("router", "start")
"""The author of the router's own changes, such as creating the first admin."""


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One change; `at` is seconds since 1970, `subject` the changed object, `detail` JSON values."""

    at: float
    actor: Actor
    action: AuditAction
    subject: str | None = None
    detail: Mapping[str, Any] = {}

    def to_json(self) -> dict[str, Any]:
        """Return the entry as one flat object."""
        return {
            "at": self.at,
            "actor": self.actor.name,
            "via": self.actor.via,
            "address": self.actor.address,
            "action": self.action,
            "subject": self.subject,
            "detail": dict(self.detail),
        }


class AuditFilter(Struct, frozen=True, kw_only=True):
    """Conditions on entries; None leaves a field open. `since` and `before` are seconds since 1970."""

    since: float | None = None
    before: float | None = None
    actor: str | None = None
    actions: Sequence[AuditAction] | None = None
    subject: str | None = None


def actions_of(name: str) -> tuple[AuditAction, ...]:
    """Return the action of this name, or all actions of a group: `user` selects every `user.*`."""
    known: tuple[AuditAction, ...] = get_args(AuditAction)
    return tuple(action for action in known if action == name or action.startswith(f"{name}."))


class AuditLog:
    """The audit trail of one database."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def record(self, actor: Actor, action: AuditAction, subject: str | None = None, **detail: Any) -> None:
        """Add an entry for a change outside the database.

        The change has taken effect; if the database cannot write the entry, the router's log records it.
        """
        entry = AuditEntry(at=self._clock.wall(), actor=actor, action=action, subject=subject, detail=detail)
        try:
            await self._database.write(insert_entry, entry)
        except StorageUnavailable as error:
            _log.warning("audit_entry_not_written", **entry.to_json(), error=error.message)

    async def list(self, chosen: AuditFilter, *, limit: int = 50) -> tuple[AuditEntry, ...]:
        """Return the newest entries first, at most `limit`.

        Raises:
            StorageUnavailable: the database cannot answer.
        """
        return await self._database.read(_select, chosen, limit)

    async def cleanup(self, *, before: float | None, most: int | None) -> int:
        """Delete entries older than `before` (seconds since 1970) and those beyond the newest `most`; return how many.

        Raises:
            StorageUnavailable: the database cannot delete them.
        """
        return await self._database.write(_delete, before, most)


def insert_entry(connection: Connection, entry: AuditEntry) -> None:
    """Insert an entry in the transaction of its change."""
    row = {**entry.to_json(), "detail": json.dumps(entry.to_json()["detail"], sort_keys=True)}
    connection.execute(insert(audit_log).values(row))


def _select(connection: Connection, chosen: AuditFilter, limit: int) -> tuple[AuditEntry, ...]:
    columns = audit_log.c
    query = select(audit_log).order_by(columns.at.desc(), columns.id.desc()).limit(limit)
    if chosen.since is not None:
        query = query.where(columns.at >= chosen.since)
    if chosen.before is not None:
        query = query.where(columns.at < chosen.before)
    if chosen.actor is not None:
        query = query.where(columns.actor == chosen.actor)
    if chosen.actions is not None:
        query = query.where(columns.action.in_(chosen.actions))
    if chosen.subject is not None:
        query = query.where(columns.subject == chosen.subject)
    return tuple(
        AuditEntry(
            at=row.at,
            actor=Actor(row.actor, row.via, row.address),
            action=row.action,
            subject=row.subject,
            detail=json.loads(row.detail),
        )
        for row in connection.execute(query)
    )


def _delete(connection: Connection, before: float | None, most: int | None) -> int:
    columns, gone = audit_log.c, 0
    if before is not None:
        gone += connection.execute(delete(audit_log).where(columns.at < before)).rowcount
    if most is not None:
        kept = select(columns.id).order_by(columns.id.desc()).limit(most)
        gone += connection.execute(delete(audit_log).where(columns.id.not_in(kept))).rowcount
    return gone
