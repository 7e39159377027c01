"""One migrated database for each test, of each kind."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import psycopg
import pytest

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.upgrade import upgrade_database
from support.postgresql import find_binaries, running_cluster
from support.storage import sqlite_url


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server: the one given, or a private one."""
    given = os.environ.get("OROUTER_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: set OROUTER_TEST_POSTGRES_URL or install the package postgresql")
    with running_cluster(binaries) as url:
        yield url


@pytest.fixture
def empty_postgresql(postgresql_server: str) -> Iterator[str]:
    """A new, empty database."""
    yield from _fresh_database(postgresql_server, "router_empty", template="template0")


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_server: str) -> Iterator[str]:
    """A database to copy."""
    for url in _fresh_database(postgresql_server, "router_migrated", template="template0"):
        anyio.run(upgrade_database, url)
        yield url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to copy."""
    path = tmp_path_factory.mktemp("migrated") / "router.sqlite3"
    anyio.run(upgrade_database, sqlite_url(path))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated database without users."""
    if request.param == "sqlite":
        path = tmp_path / "router.sqlite3"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), path)
        yield sqlite_url(path)
        return
    server = request.getfixturevalue("postgresql_server")
    request.getfixturevalue("migrated_postgresql")
    yield from _fresh_database(server, "router_test", template="router_migrated")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Connections to it."""
    database = Database(database_url)
    yield database
    await database.aclose()


def _fresh_database(server: str, name: str, *, template: str) -> Iterator[str]:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
