"""Recent admissions of each process for users with limits, shared through the database.

A row is one process's view of one user: requests in flight, and admissions in each second of the last minute. Each
process writes only its own rows, so writers never conflict.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from msgspec import Struct
from sqlalchemy import delete, select

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.dialect import insert_into
from ollama_router_server.storage.schema import activity

__all__ = ["Activity", "ActivityStore"]


class Activity(Struct, frozen=True, kw_only=True):
    """One process's requests of one user. `seconds` pairs whole seconds since 1970 with counts of admissions."""

    user: str
    in_flight: int
    seconds: tuple[tuple[int, int], ...]
    seen_at: float


class ActivityStore:
    """The rows of one process, keyed by router (shared by its workers) and worker, and the rows of other routers.

    Every method may raise `StorageUnavailable`.
    """

    def __init__(self, database: Database, *, router: str, worker: int) -> None:
        self._database = database
        self._own = {"router": router, "worker": worker}
        self._insert = insert_into(database.backend, activity)

    async def publish(self, rows: Sequence[Activity]) -> None:
        """Replace this process's rows of these users."""
        if not rows:
            return
        new = self._insert.excluded
        statement = self._insert.on_conflict_do_update(
            index_elements=["router", "worker", "user"],
            set_={"in_flight": new.in_flight, "seconds": new.seconds, "seen_at": new.seen_at},
        )
        values = [
            {
                **self._own,
                "user": row.user,
                "in_flight": row.in_flight,
                "seconds": json.dumps(row.seconds),
                "seen_at": row.seen_at,
            }
            for row in sorted(rows, key=lambda row: row.user)
        ]
        await self._database.write(lambda connection: connection.execute(statement, values))

    async def others(self, *, since: float) -> Iterable[Activity]:
        """Return the rows that processes of other routers wrote after `since`."""
        columns = activity.c
        query = select(columns.user, columns.in_flight, columns.seconds, columns.seen_at)
        query = query.where(columns.router != self._own["router"], columns.seen_at > since)
        found = await self._database.read(lambda connection: connection.execute(query).all())
        return [
            Activity(user=user, in_flight=in_flight, seconds=_pairs(seconds), seen_at=seen_at)
            for user, in_flight, seconds, seen_at in found
        ]

    async def forget(self, *, before: float) -> None:
        """Delete the rows that any process wrote before `before` (seconds since 1970)."""
        old = delete(activity).where(activity.c.seen_at < before)
        await self._database.write(lambda connection: connection.execute(old))


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    return tuple((int(second), int(count)) for second, count in json.loads(text))
