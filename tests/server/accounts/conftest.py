"""A database file of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ollama_router_server.storage.database import Database
from support.storage import create_sqlite, sqlite_url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A migrated database file."""
    path = tmp_path / "router.sqlite3"
    create_sqlite(path)
    return path


@pytest.fixture
async def database(path: Path) -> AsyncIterator[Database]:
    """Connections to it."""
    database = Database(sqlite_url(path), busy_timeout=0.05)
    yield database
    await database.aclose()
