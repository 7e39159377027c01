"""Persistent drains: the last decision about each server."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import delete, select

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.dialect import insert_into
from ollama_router_server.storage.schema import drains

__all__ = ["DrainStore", "StoredDrain"]


class StoredDrain(NamedTuple):
    """The last decision about a server; every decision increments `version`."""

    on: bool
    version: int


class DrainStore:
    """The drains of all routers on one database. Every method may raise `StorageUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        insert = insert_into(database.backend, drains)
        changed = {"on": insert.excluded.on, "version": drains.c.version + 1}
        self._set = insert.on_conflict_do_update(index_elements=["server"], set_=changed)

    async def set(self, server: str, *, on: bool) -> None:
        """Store whether a server is drained."""
        row = {"server": server, "on": on, "version": 0}
        await self._database.write(lambda connection: connection.execute(self._set, row))

    async def forget(self, servers: Collection[str]) -> None:
        """Delete the decisions about some servers; the config decides again."""
        gone = delete(drains).where(drains.c.server.in_(servers))
        await self._database.write(lambda connection: connection.execute(gone))

    async def read(self) -> Mapping[str, StoredDrain]:
        """Return the last decision about each server, for servers that have one."""
        query = select(drains.c.server, drains.c.on, drains.c.version)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return {server: StoredDrain(bool(on), version) for server, on, version in rows}
