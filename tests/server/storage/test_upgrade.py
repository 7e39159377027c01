"""Bringing a database to this release's schema."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from ollama_router_core.errors import ConfigError, StorageUnavailable
from ollama_router_server.storage import migrations, upgrade
from ollama_router_server.storage.database import Database, create_sqlite_file
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.schema import metadata
from ollama_router_server.storage.upgrade import (
    SchemaState,
    check_database,
    downgrade_database,
    known_revisions,
    migrate,
    prepare_database,
    upgrade_database,
)
from support.next_releases import next_release
from support.records import make_record
from support.storage import sqlite_url

pytestmark = pytest.mark.anyio

NEWEST = "0001_initial"


def differences(connection: Connection) -> object:
    """What Alembic would change to get from the database to the tables we declare."""
    return compare_metadata(MigrationContext.configure(connection), metadata)


def statements(path: Path) -> dict[str, set[str]]:
    """What makes each table and index of a SQLite file: its parts, in whatever order."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: {part.strip(" ()") for part in re.split(r"[,\s]*\n[,\s]*|, ", sql)} for name, sql in rows}


async def test_a_new_database_has_the_declared_tables(database: Database) -> None:
    """It is made from `schema`, without a step, and Alembic finds nothing to do."""
    assert await database.read(differences) == []


async def test_the_steps_lead_to_the_declared_tables(empty_postgresql: str) -> None:
    """Migrations and `schema` say the same to PostgreSQL."""
    database = Database(empty_postgresql)
    await database.write(migrate)
    assert await database.read(differences) == []
    assert (await check_database(empty_postgresql)).up_to_date
    await database.aclose()


async def test_the_steps_lead_to_the_tables_of_a_new_file(tmp_path: Path) -> None:
    """Migrations and `schema` say the same to SQLite, to the letter."""
    made, stepped = tmp_path / "made.sqlite3", tmp_path / "stepped.sqlite3"
    await upgrade_database(sqlite_url(made))
    create_sqlite_file(stepped)
    database = Database(sqlite_url(stepped))
    await database.write(migrate)
    epoch = text("SELECT epoch FROM auth_epoch")
    assert await database.read(lambda connection: connection.execute(epoch).scalar_one()) == 1
    await database.aclose()
    assert statements(made) == statements(stepped)


async def test_a_file_with_tables_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """The database of the Rails application, for example."""
    path = tmp_path / "production.sqlite3"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE users (id INTEGER)")
    before = statements(path)
    with pytest.raises(StorageUnavailable, match="already exists"):
        await upgrade_database(sqlite_url(path))
    assert statements(path) == before


def test_the_names_of_the_steps_are_their_revisions():
    """A database's state is told without Alembic, which takes half a second to import."""
    script = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert known_revisions() == tuple(step.revision for step in reversed(list(script.walk_revisions())))


async def test_a_missing_sqlite_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """Folders, file and tables; the digests in it are nobody else's business."""
    path = tmp_path / "new" / "a b%20#.sqlite3"
    assert (await upgrade_database(sqlite_url(path))).up_to_date
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_sqlite_is_in_wal_mode(tmp_path: Path) -> None:
    """Readers never wait for the writer."""
    url = sqlite_url(tmp_path / "router.sqlite3")
    await upgrade_database(url)
    database = Database(url)
    pragmas = [text(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]
    values = await database.read(lambda connection: [connection.execute(pragma).scalar_one() for pragma in pragmas])
    assert values == ["wal", 1, 1]
    await database.aclose()


async def test_upgrading_twice_changes_nothing(database_url: str) -> None:
    """And several processes may start at once."""
    states = await asyncio.gather(*(upgrade_database(database_url) for _ in range(4)))
    assert set(states) == {SchemaState(current=NEWEST, newest=NEWEST, known=True)}


async def test_several_processes_may_create_the_same_file(tmp_path: Path) -> None:
    """One works, the others wait for it."""
    url = sqlite_url(tmp_path / "router.sqlite3")
    states = await asyncio.gather(*(upgrade_database(url) for _ in range(4)))
    assert all(state.up_to_date for state in states)


async def test_postgresql_is_upgraded_only_when_told(empty_postgresql: str) -> None:
    """Routers of two releases may share it, so starting one must not change it."""
    with pytest.raises(ConfigError, match="orouter db upgrade"):
        await prepare_database(empty_postgresql)
    assert (await check_database(empty_postgresql)).current is None
    await asyncio.gather(*(upgrade_database(empty_postgresql) for _ in range(3)))
    assert (await prepare_database(empty_postgresql)).up_to_date


async def test_sqlite_is_upgraded_on_start(tmp_path: Path) -> None:
    """A single file belongs to a single release."""
    assert (await prepare_database(sqlite_url(tmp_path / "router.sqlite3"))).up_to_date


async def test_a_locked_or_read_only_file_that_needs_nothing_is_enough(tmp_path: Path) -> None:
    """Requests are served even if nothing can be written."""
    path = tmp_path / "router.sqlite3"
    await upgrade_database(sqlite_url(path))
    assert (await prepare_database(sqlite_url(path) + "?mode=ro")).up_to_date
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert (await prepare_database(sqlite_url(path))).up_to_date


async def test_an_empty_file_is_upgraded_on_start(tmp_path: Path) -> None:
    """As `touch` leaves one."""
    (tmp_path / "router.sqlite3").touch()
    assert (await prepare_database(sqlite_url(tmp_path / "router.sqlite3"))).up_to_date


async def test_a_newer_release_s_database_is_left_alone(database_url: str, database: Database) -> None:
    """An older router must not write into tables it does not know."""
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    await database.write(lambda connection: connection.execute(newer))
    for refuse in (upgrade_database, prepare_database):
        with pytest.raises(ConfigError, match="newer release"):
            await refuse(database_url)
    assert not (await check_database(database_url)).known


@pytest.mark.parametrize(
    "revision",
    ["0001", "0005", "0001_first_release", "0002_incidents_expand", "0003_usage_expand", "0004_token_priority_expand"],
)
async def test_a_development_version_s_database_is_refused_with_a_way_out(
    database_url: str, database: Database, revision: str
) -> None:
    """Its tables look alike and hold something else."""
    older = text("UPDATE alembic_version SET version_num = :revision")
    await database.write(lambda connection: connection.execute(older, {"revision": revision}))
    for refuse in (upgrade_database, prepare_database):
        with pytest.raises(ConfigError, match=r"development version.*create the users again"):
            await refuse(database_url)
    assert not (await check_database(database_url)).usable


async def test_the_last_development_version_s_database_is_the_first_release_s(
    database_url: str, database: Database
) -> None:
    """It has the same tables: routers start on it, and the next release brings it up to date with what is in it."""
    row = make_record(1, user="ann", speaker="webui")
    await RequestLog(database).insert([row])
    last = text("UPDATE alembic_version SET version_num = '0005_speakers_expand'")
    await database.write(lambda connection: connection.execute(last))
    assert (await prepare_database(database_url)).up_to_date
    assert (await upgrade_database(database_url)).current == NEWEST
    with next_release("colours_expand") as (name,):
        assert (await upgrade_database(database_url)).current == name
        assert (await downgrade_database(database_url)).current == NEWEST
    assert await RequestLog(database).list(LogFilter()) == (row,)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that is not there yet, or is empty."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "router.sqlite3")
    url: str = request.getfixturevalue("empty_postgresql")
    return url


async def columns_of_log(url: str) -> set[str]:
    """What the request log has."""
    database = Database(url)
    found = await database.read(lambda connection: inspect(connection).get_columns("request_log"))
    await database.aclose()
    return {column["name"] for column in found}


async def test_the_revision_before_shares_the_database(new_url: str) -> None:
    """It starts on it and leaves it alone; its own database is brought up to date with what is in it.

    A row of the log is as one that it wrote then.
    """
    row = make_record(1, user="ann", speaker="webui")
    await upgrade_database(new_url)
    with next_release("colours_expand"):
        await upgrade_database(new_url)
    database = Database(new_url)
    await RequestLog(database).insert([row])
    coloured = text("UPDATE request_log SET colours = 'red'")
    await database.write(lambda connection: connection.execute(coloured))
    await database.aclose()
    assert (await prepare_database(new_url)).usable
    with next_release("colours_expand"):
        await downgrade_database(new_url)
        assert not (await check_database(new_url)).usable
    database = Database(new_url)
    assert await database.read(differences) == []
    assert await RequestLog(database).list(LogFilter()) == (row,)
    await database.aclose()
    with next_release("colours_expand"):
        assert (await upgrade_database(new_url)).up_to_date
    database = Database(new_url)
    assert await RequestLog(database).list(LogFilter()) == (row,)
    colours = text("SELECT colours FROM request_log")
    assert await database.read(lambda connection: list(connection.execute(colours).scalars())) == [None]
    await database.aclose()


def shape(connection: Connection) -> dict[str, dict[str, Any]]:
    """What code that knows these tables goes by: columns and whether they may be left out, keys, what is unique."""
    found = inspect(connection)
    return {
        name: {
            "columns": {one["name"]: (str(one["type"]), one["nullable"]) for one in found.get_columns(name)},
            "optional": {
                one["name"] for one in found.get_columns(name) if one["nullable"] or one["default"] is not None
            },
            "key": found.get_pk_constraint(name)["constrained_columns"],
            "unique": sorted(
                tuple(str(column) for column in index["column_names"])
                for index in found.get_indexes(name)
                if index["unique"]
            ),
            "rules": (len(found.get_foreign_keys(name)), len(found.get_check_constraints(name))),
        }
        for name in found.get_table_names()
    }


async def test_a_revision_that_expands_takes_nothing_from_the_release_before(new_url: str) -> None:
    """Tables, columns and keys are as they were, and a row without what is new can be written; each such step.

    Of those that ship, and of two more.
    """
    await upgrade_database(new_url)
    with next_release("colours_expand", "shades_expand"):
        await upgrade_database(new_url)
        database = Database(new_url)
        for step in reversed(upgrade.known_revisions()[1:]):
            after = await database.read(shape)
            await downgrade_database(new_url)
            before = await database.read(shape)
            assert before != after
            for name, table in before.items() if step.endswith("_expand") else ():
                new = after[name]
                assert table["columns"].items() <= new["columns"].items(), (step, name)
                assert new["columns"].keys() - table["columns"].keys() <= new["optional"], (step, name)
                kept = ("key", "unique", "rules")
                assert {part: table[part] for part in kept} == {part: new[part] for part in kept}, (step, name)
        await database.aclose()


async def test_a_revision_that_only_adds_is_shared_and_taken_back(new_url: str) -> None:
    """The release before starts on it and leaves it alone; the newer one takes it back, and what it added goes."""
    await upgrade_database(new_url)
    with next_release("colours_expand") as (name,):
        assert (await upgrade_database(new_url)).up_to_date
    state = await prepare_database(new_url)
    assert (state.current, state.usable, state.up_to_date) == (name, True, False)
    assert "colours" in await columns_of_log(new_url)
    with pytest.raises(ConfigError, match=f"orouter db downgrade --to {NEWEST}"):
        await downgrade_database(new_url)
    with next_release("colours_expand"):
        assert (await downgrade_database(new_url)).current == NEWEST
    assert "colours" not in await columns_of_log(new_url)
    assert (await prepare_database(new_url)).up_to_date


async def test_two_revisions_that_only_add_are_one_too_many(new_url: str) -> None:
    """A release works with what the next one adds, and not with what the one after that does."""
    await upgrade_database(new_url)
    with next_release("colours_expand", "shades_expand"):
        await upgrade_database(new_url)
    with pytest.raises(ConfigError, match=f"with that one run: orouter db downgrade --to {NEWEST}"):
        await prepare_database(new_url)


async def test_a_revision_that_takes_away_is_refused_with_the_way_back(tmp_path: Path) -> None:
    """By a release that may still need what is gone; the text has the command."""
    url = sqlite_url(tmp_path / "router.sqlite3")
    await upgrade_database(url)
    with next_release("less"):
        await upgrade_database(url)
    with pytest.raises(ConfigError, match=f"with that one run: orouter db downgrade --to {NEWEST}"):
        await prepare_database(url)


async def test_there_is_nothing_before_the_first_revision(tmp_path: Path) -> None:
    """Nor is a revision that is not earlier one to go back to; a missing file is not made."""
    url = sqlite_url(tmp_path / "router.sqlite3")
    with pytest.raises(StorageUnavailable):
        await downgrade_database(url)
    await upgrade_database(url)
    with next_release("colours_expand", "shades_expand") as (colours, _):
        await upgrade_database(url)
        with pytest.raises(ConfigError, match=f"those are {known_revisions()[0]}, {colours}$"):
            await downgrade_database(url, "0009_more")
        await downgrade_database(url, known_revisions()[0])
        with pytest.raises(ConfigError, match="none before it"):
            await downgrade_database(url)
    with pytest.raises(ConfigError, match="none before it"):
        await downgrade_database(url)


async def test_checking_creates_nothing(tmp_path: Path) -> None:
    """A typo in a path must not leave an empty database behind."""
    path = tmp_path / "missing.sqlite3"
    with pytest.raises(StorageUnavailable, match="is gone"):
        await check_database(sqlite_url(path))
    assert not path.exists()


async def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    """It is named, and not overwritten."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database" * 100, encoding="utf-8")
    with pytest.raises(StorageUnavailable, match=r"notes\.txt"):
        await upgrade_database(sqlite_url(path))
    assert path.read_text(encoding="utf-8") == "not a database" * 100
