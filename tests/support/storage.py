"""Databases and clocks for tests of what is stored."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from ollama_router_server.storage.database import sqlite_url
from ollama_router_server.storage.upgrade import upgrade_database
from support.clock import FakeClock

__all__ = ["FakeClock", "back_up", "create_sqlite", "delete_database", "restore", "sqlite_url"]


def create_sqlite(path: Path) -> str:
    """Put a migrated database at this path; returns its URL. Call it outside an event loop."""
    path.write_bytes(_migrated())
    return sqlite_url(path)


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "router.sqlite3")
        anyio.run(upgrade_database, sqlite_url(path))
        return path.read_bytes()


def back_up(path: Path) -> Path:
    """A copy with everything that was committed, also what still stands in the write-ahead log."""
    backup = path.with_name("backup")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))
    return backup


def restore(backup: Path, path: Path) -> None:
    """Put a backup in the place of a database."""
    backup.rename(path)


def delete_database(path: Path) -> None:
    """Remove a SQLite file with what belongs to it."""
    for part in path.parent.glob(f"{path.name}*"):
        if part.is_file():  # rows of a router that runs are in a folder beside it
            part.unlink()
