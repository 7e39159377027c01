"""Connections: URLs, transactions, and a database that is locked, gone or replaced."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError, StorageUnavailable
from ollama_router_server.storage.database import Database, database_url_of, describe_url
from support.eventually import eventually
from support.storage import back_up, create_sqlite, delete_database, restore, sqlite_url

pytestmark = pytest.mark.anyio

EPOCH = text("SELECT epoch FROM auth_epoch")
MOVE = text("UPDATE auth_epoch SET epoch = epoch + 1")


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    """A migrated file."""
    path = tmp_path / "router.sqlite3"
    create_sqlite(path)
    return path


async def epoch_of(database: Database) -> int:
    """Any read."""
    return await database.read(lambda connection: int(connection.execute(EPOCH).scalar_one()))


async def move(database: Database) -> None:
    """Any write."""
    await database.write(lambda connection: connection.execute(MOVE))


def move_and_fail(connection: Connection) -> None:
    """A transaction that fails at its end."""
    connection.execute(MOVE)
    raise RuntimeError("halfway")


async def test_writes_are_committed_whole_or_not_at_all(database: Database) -> None:
    """An error in a transaction leaves nothing behind."""
    await move(database)
    with pytest.raises(RuntimeError, match="halfway"):
        await database.write(move_and_fail)
    assert await epoch_of(database) == 2


async def test_a_read_sees_one_state(database: Database) -> None:
    """What others commit meanwhile does not show."""
    begun, moved = threading.Event(), threading.Event()

    def twice(connection: Connection) -> tuple[int, int]:
        before = connection.execute(EPOCH).scalar_one()
        begun.set()
        assert moved.wait(10)
        return before, connection.execute(EPOCH).scalar_one()

    reading = asyncio.create_task(database.read(twice))
    await asyncio.to_thread(begun.wait, 10)
    await move(database)
    moved.set()
    assert await reading == (1, 1)
    assert await epoch_of(database) == 2


async def test_a_connection_s_mode_does_not_stick(database: Database) -> None:
    """A pooled connection that has read can write next."""
    for _ in range(3):
        await epoch_of(database)
        await move(database)
    assert await epoch_of(database) == 4


async def test_a_locked_file_can_be_read_but_not_written(sqlite_file: Path) -> None:
    """Another program's write lock costs writers `busy_timeout`, and readers nothing."""
    database = Database(sqlite_url(sqlite_file), busy_timeout=0.05)
    with closing(sqlite3.connect(sqlite_file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable, match="locked"):
            await move(database)
        assert await epoch_of(database) == 1
    await move(database)
    assert await epoch_of(database) == 2
    await database.aclose()


async def test_a_deleted_file_is_noticed_and_not_made_again(sqlite_file: Path) -> None:
    """Writes into a deleted file would vanish; an empty new one would forget all users."""
    database = Database(sqlite_url(sqlite_file))
    assert await epoch_of(database) == 1
    delete_database(sqlite_file)
    with pytest.raises(StorageUnavailable, match="is gone"):
        await epoch_of(database)
    assert os.listdir(sqlite_file.parent) == []  # noqa: PTH208 - Path blocks, says another rule
    await database.aclose()


async def test_a_replaced_file_is_followed(sqlite_file: Path) -> None:
    """After a restore from a backup no restart is needed."""
    database = Database(sqlite_url(sqlite_file))
    backup = back_up(sqlite_file)
    await move(database)
    assert await epoch_of(database) == 2
    delete_database(sqlite_file)
    restore(backup, sqlite_file)
    assert await epoch_of(database) == 1
    await database.aclose()


async def test_no_server_is_an_answer_in_time() -> None:
    """A PostgreSQL that is not there is `StorageUnavailable`, and its password is in no text."""
    database = Database("postgresql://router:canary@127.0.0.1:1/router", busy_timeout=1.0)
    with pytest.raises(StorageUnavailable) as caught:
        await epoch_of(database)
    assert "canary" not in f"{caught.value} {caught.value!r} {database!r}"
    await database.aclose()


async def test_a_server_that_vanished_is_noticed_in_seconds(migrated_postgresql: str) -> None:
    """Pulled from the network while it was to answer: the system would wait for a quarter of an hour."""
    database = Database(migrated_postgresql)

    def options(connection: Connection) -> dict[str, str]:
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        return driver.info.get_parameters()

    shown = await database.read(options)
    assert (shown["tcp_user_timeout"], shown["keepalives_idle"]) == ("10000", "5")
    await database.aclose()


@pytest.mark.parametrize("url", ["", "router.sqlite3", "mysql://h/db", "sqlite://", "sqlite:///:memory:", "http://h"])
def test_other_urls_are_refused(url: str) -> None:
    """With a text that shows how one looks."""
    with pytest.raises(ConfigError, match="the database URL must"):
        Database(url)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is an extra: the text says how to get it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'ollama-router-server\[postgres\]'"):
        Database("postgresql://u:p@h/d")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_usual_spellings_of_postgresql(scheme: str) -> None:
    """What hosting platforms hand out works unchanged."""
    assert Database(f"{scheme}://u:p@h/d").backend == "postgresql"


def test_the_default_is_a_file_of_this_user() -> None:
    """In the platform's data directory."""
    path = Database(database_url_of(Config(), {})).path
    assert path is not None
    assert path.name == "router.sqlite3"
    assert "ollama-router" in path.parts


def test_a_url_for_people_has_no_password() -> None:
    """Also when it cannot be parsed."""
    assert "canary" not in describe_url("postgresql://u:canary@h/d")
    assert "canary" not in describe_url("canary")
    assert "canary" not in describe_url("postgresql://u@h/d?password=canary")
    assert "canary" not in describe_url("postgresql://u:canary/0@h/d")


async def test_a_transaction_whose_task_is_cancelled_ends_as_it_would_have(database: Database) -> None:
    """Its thread commits it, and gives its connection back."""
    begun, cancelled = threading.Event(), threading.Event()

    def slowly(connection: Connection) -> None:
        begun.set()
        assert cancelled.wait(10)
        connection.execute(MOVE)

    writing = asyncio.create_task(database.write(slowly))
    await asyncio.to_thread(begun.wait, 10)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    cancelled.set()
    await move(database)
    assert await epoch_of(database) == 3


async def test_closing_does_not_wait_for_a_database_that_hangs(sqlite_file: Path) -> None:
    """A router whose database is frozen stops within the time of a lock."""
    database = Database(sqlite_url(sqlite_file), busy_timeout=0.05)
    begun, woken = threading.Event(), threading.Event()

    def hangs(_connection: Connection) -> None:
        begun.set()
        woken.wait(10)

    reading = asyncio.create_task(database.read(hangs))
    await asyncio.to_thread(begun.wait, 10)
    await asyncio.wait_for(database.aclose(), 5)
    woken.set()
    await asyncio.gather(reading, return_exceptions=True)
    await eventually(lambda: not open_files(sqlite_file))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
async def test_a_closed_database_leaves_nothing_open(sqlite_file: Path) -> None:
    """Neither files nor threads."""
    database = Database(sqlite_url(sqlite_file))
    await asyncio.gather(move(database), *(epoch_of(database) for _ in range(10)))
    assert open_files(sqlite_file)
    await database.aclose()
    assert not open_files(sqlite_file)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("database-")]


def open_files(path: Path) -> list[str]:
    """The open files of this process whose name begins as that of the database."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return [name for name in found if name.startswith(str(path))]
