"""One migrated database for each test, of each kind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import psycopg
import pytest
from psycopg import sql

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.schema import metadata
from ollama_router_server.storage.upgrade import known_revisions, upgrade_database
from support.postgresql import find_binaries, running_cluster
from support.storage import create_sqlite


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
    with running_cluster(binaries) as cluster:
        yield cluster.url


@pytest.fixture
def empty_postgresql(postgresql_server: str) -> Iterator[str]:
    """A new, empty database."""
    with _fresh_database(postgresql_server, "router_empty") as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_server: str) -> Iterator[str]:
    """A migrated database, in which every test leaves its rows."""
    with _fresh_database(postgresql_server, "router_test") as url:
        anyio.run(upgrade_database, url)
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated database without users."""
    if request.param == "sqlite":
        return create_sqlite(tmp_path / "router.sqlite3")
    url: str = request.getfixturevalue("migrated_postgresql")
    with psycopg.connect(url) as connection:
        tables = [sql.Identifier(table.name) for table in metadata.sorted_tables if table.name != "auth_epoch"]
        connection.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(tables)))
        connection.execute("UPDATE auth_epoch SET epoch = 1")
        connection.execute("UPDATE alembic_version SET version_num = %s", [known_revisions()[-1]])
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Connections to it."""
    database = Database(database_url)
    yield database
    await database.aclose()


@contextmanager
def _fresh_database(server: str, name: str) -> Iterator[str]:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
