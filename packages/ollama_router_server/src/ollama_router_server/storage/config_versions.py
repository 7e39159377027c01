"""Configs that routers on one database activated, without secrets; for routers without a persistent folder."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.engine import Connection

from ollama_router_core.config import mask_secrets
from ollama_router_server.storage.config_history import MOST_VERSIONS, ConfigVersion, KeptConfigs
from ollama_router_server.storage.database import Database, describe_url
from ollama_router_server.storage.dialect import insert_into
from ollama_router_server.storage.schema import config_versions

__all__ = ["ConfigVersionStore", "kept_in_database"]

_TRIES: Final = 3


class ConfigVersionStore:
    """The versions of one config file, which has the same path on every router that shares it.

    Args:
        database: every method may raise `StorageUnavailable`.
        path: the file's path.
        most: versions to keep; the oldest are deleted first.
    """

    def __init__(self, database: Database, path: Path, *, most: int = MOST_VERSIONS) -> None:
        self._database = database
        self._path = str(path.absolute())[-512:]
        self._most = most

    async def keep(self, text: str, now: float, *, router: str, cause: str) -> bool:
        """Store a text that a router activated, unless it is the newest version (another router has stored it).

        Raises:
            ConfigError: it is not YAML.
        """
        masked = mask_secrets(text)
        for _ in range(_TRIES):
            done = await self._database.write(self._keep, masked, now, router, cause)
            if done is not None:
                return done
        return False

    def _keep(self, connection: Connection, text: str, now: float, router: str, cause: str) -> bool | None:
        """Return whether a version was stored; None if another router took its number."""
        table, mine = config_versions, config_versions.c.path == self._path
        newest = connection.execute(
            select(table.c.number, table.c.text).where(mine).order_by(table.c.number.desc()).limit(1)
        ).first()
        if newest is not None and newest.text == text:
            return False
        number = 1 if newest is None else newest.number + 1
        row = {"path": self._path, "number": number, "taken_up_at": now, "router": router[:100], "cause": cause}
        insert = insert_into(self._database.backend, table).on_conflict_do_nothing()
        if not connection.execute(insert, {**row, "text": text}).rowcount:
            return None
        connection.execute(delete(table).where(mine, table.c.number <= number - self._most))
        return True

    async def versions(self) -> list[ConfigVersion]:
        """Return the stored versions, oldest first."""
        table = config_versions
        query = select(table).where(table.c.path == self._path).order_by(table.c.number)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [
            ConfigVersion(number=row.number, at=int(row.taken_up_at), text=row.text, router=row.router, cause=row.cause)
            for row in rows
        ]


async def kept_in_database(url: str, path: Path) -> KeptConfigs:
    """Read the versions of a config file from a database that routers share.

    Raises:
        StorageUnavailable: the database cannot answer.
    """
    database = Database(url)
    try:
        return KeptConfigs(describe_url(url), await ConfigVersionStore(database, path).versions())
    finally:
        await database.aclose()
