"""Stored incidents: one row each, from the first sign to the end.

Every ten minutes a process confirms its active incidents. An incident without confirmation for half an hour ended at
its last confirmation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import bindparam, delete, or_, select, update
from sqlalchemy.engine import Connection

from ollama_router_core.errors import Overloaded
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.incident_changes import (
    LONGEST_MODEL,
    Change,
    IncidentKey,
    IncidentKind,
    Origin,
    apply_changes,
)
from ollama_router_server.storage.incident_hits import OF_REFUSED, Hit, count_hits
from ollama_router_server.storage.schema import incidents

__all__ = ["SILENT_SECONDS", "Incident", "IncidentFilter", "IncidentStore"]

_MOST_ROWS: Final = 10_000
_DELETED_AT_ONCE: Final = 1_000
SILENT_SECONDS: Final = 1_800.0
_MOST_COUNTED: Final = 50
_PATIENCE: Final = 10.0


class Incident(Struct, frozen=True, kw_only=True):
    """One incident; times are seconds since 1970, `ended_at` is None while it is active.

    Attributes:
        router: the router that reported it.
        server: the affected server, empty for none; `model` likewise.
        cause: the first cause reported.
    """

    id: int
    router: str
    kind: IncidentKind
    server: str
    model: str
    began_at: float
    ended_at: float | None
    cause: str


class IncidentFilter(Struct, frozen=True, kw_only=True):
    """Conditions on incidents; None leaves a field open.

    `since` and `before` are seconds since 1970; an incident matches if it was active at any time between them.
    An `origin` matches the incidents of its router and those of its fleet.
    """

    since: float | None = None
    before: float | None = None
    kinds: Sequence[IncidentKind] | None = None
    server: str | None = None
    origin: Origin | None = None
    active: bool | None = None


_NAMES: Final = Incident.__struct_fields__


class IncidentStore:
    """The incidents of one database. Every method may raise `StorageUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counting = asyncio.Lock()

    async def apply(self, origin: Origin, changes: Sequence[Change]) -> None:
        """Write changes in order, in one transaction."""
        await self._database.write(apply_changes, origin, changes)

    async def list(self, chosen: IncidentFilter, *, limit: int = 50) -> tuple[Incident, ...]:
        """Return incidents, newest first, at most `limit`."""
        return await self._database.read(_select, chosen, limit)

    async def of_fleet(self, origin: Origin, *, since: float) -> tuple[Incident, ...]:
        """Return the fleet's active incidents that were confirmed since `since`; empty without a fleet."""
        return () if origin.fleet is None else await self._database.read(_of_fleet, origin, since)

    async def hits(self, chosen: Iterable[Incident]) -> dict[int, Hit]:
        """Count the affected requests of the first fifty incidents that can have any, by id; one query at a time.

        Raises:
            Overloaded: other queries took ten seconds.
        """
        ids = [one.id for one in islice((one for one in chosen if one.server or one.kind in OF_REFUSED), _MOST_COUNTED)]
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._counting.acquire()
        except TimeoutError:
            raise Overloaded("requests of other incidents are being counted", retry_after=_PATIENCE) from None
        counted = asyncio.create_task(self._database.read(count_hits, ids))
        counted.add_done_callback(lambda _: self._counting.release())
        return await asyncio.shield(counted)  # the query's thread goes on even if the caller is cancelled

    async def keep_alive(
        self, origin: Origin, suffered: Collection[IncidentKey], now: float, *, end_silent: bool
    ) -> None:
        """Confirm these incidents; with `end_silent`, end those without confirmation for half an hour."""
        seen = await self._database.read(_read_active)
        ours = {(origin.scope(kind), kind, server, model[:LONGEST_MODEL]) for kind, server, model in suffered}
        kept = [one.id for one in seen if (one.scope, one.kind, one.server, one.model) in ours]
        oldest = now - SILENT_SECONDS if end_silent else None
        if kept or (oldest is not None and any(one.seen_at < oldest for one in seen)):
            await self._database.write(_keep_alive, kept, now, oldest)

    async def cleanup(self, *, before: float | None) -> int:
        """Delete incidents that ended before `before`, and those beyond the newest 10,000; return how many.

        Each transaction deletes at most a thousand.
        """
        gone = 0
        while deleted := await self._database.write(_delete, before):
            gone += deleted
        return gone


def _select(connection: Connection, chosen: IncidentFilter, limit: int) -> tuple[Incident, ...]:
    columns = incidents.c
    query = select(*(columns[name] for name in _NAMES)).order_by(columns.began_at.desc(), columns.id.desc())
    if chosen.since is not None:
        query = query.where(or_(columns.ended_at.is_(None), columns.ended_at >= chosen.since))
    if chosen.before is not None:
        query = query.where(columns.began_at < chosen.before)
    if chosen.kinds is not None:
        query = query.where(columns.kind.in_(chosen.kinds))
    if chosen.server is not None:
        query = query.where(columns.server == chosen.server)
    if chosen.origin is not None:
        query = query.where(columns.scope.in_(chosen.origin.scopes))
    if chosen.active is not None:
        over = columns.ended_at.is_not(None)
        query = query.where(~over if chosen.active else over)
    return tuple(Incident(**row) for row in connection.execute(query.limit(limit)).mappings())


def _of_fleet(connection: Connection, origin: Origin, since: float) -> tuple[Incident, ...]:
    columns = incidents.c
    query = select(*(columns[name] for name in _NAMES)).where(columns.ended_at.is_(None), columns.seen_at >= since)
    found = connection.execute(query.where(columns.scope == origin.scope("server.suspended")))
    return tuple(Incident(**row) for row in found.mappings())


def _read_active(connection: Connection) -> Sequence[Any]:
    columns = incidents.c
    shown = select(columns.id, columns.scope, columns.kind, columns.server, columns.model, columns.seen_at)
    return connection.execute(shown.where(columns.ended_at.is_(None))).all()


def _keep_alive(connection: Connection, kept: Sequence[int], now: float, oldest: float | None) -> None:
    columns = incidents.c
    active = columns.ended_at.is_(None)
    if kept:
        one = update(incidents).where(active, columns.id == bindparam("kept")).values(seen_at=now)
        connection.execute(one, [{"kept": number} for number in kept])
    if oldest is not None:
        silent = update(incidents).where(active, columns.seen_at < oldest)
        connection.execute(silent.values(ended_at=columns.seen_at))


def _delete(connection: Connection, before: float | None) -> int:
    columns = incidents.c
    newest = select(columns.id).order_by(columns.id.desc()).offset(_MOST_ROWS).limit(1).scalar_subquery()
    old = columns.id <= newest
    if before is not None:
        old |= columns.ended_at < before
    step = select(columns.id).where(old).order_by(columns.id).limit(_DELETED_AT_ONCE)
    return connection.execute(delete(incidents).where(columns.id.in_(step))).rowcount
