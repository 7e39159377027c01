"""A database is copied into another, backed up and restored."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import insert, text

from ollama_router_core.access.tokens import Token, verify_token
from ollama_router_core.errors import ConfigError, StorageUnavailable
from ollama_router_server.storage.audit_log import Actor, AuditEntry, AuditFilter, AuditLog
from ollama_router_server.storage.copying import back_up_database, copy_database, restore_database
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.database_status import database_status
from ollama_router_server.storage.group_store import GroupStore
from ollama_router_server.storage.identities import UserChange
from ollama_router_server.storage.incident_changes import Began, Origin
from ollama_router_server.storage.incident_store import IncidentStore
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.schema import request_log, users
from ollama_router_server.storage.token_usage import TokenUsage
from ollama_router_server.storage.upgrade import check_database, prepare_database
from ollama_router_server.storage.user_store import UserStore
from support.records import make_record
from support.storage import FakeClock, create_sqlite, sqlite_url

pytestmark = pytest.mark.anyio

ENTRY = AuditEntry(at=2e9, actor=Actor("root", "cli"), action="db.restore", subject="backup", detail={})
ROWS = 6_000

Filled = tuple[str, Token]
Fill = Callable[[str], Awaitable[Token]]


class Broken(Exception):
    """What a kill leaves: the copy ends where it is."""


def silent(table: str, done: int, total: int) -> None:
    """Hear nothing."""


def broken_at(limit: int) -> Callable[[str, int, int], None]:
    """End a copy once so many rows of the log are done."""

    def report(table: str, done: int, total: int) -> None:
        if table == "request_log" and limit <= done < total:
            raise Broken

    return report


async def filled(url: str, rows: int = ROWS) -> Token:
    """Put a group, users, usage and a log into a database; returns a token of alice."""
    database = Database(url)
    clock = FakeClock()
    store = UserStore(database, clock=clock, cost=4)
    await GroupStore(database, clock=clock).create("staff")
    created = await store.create("alice", role="admin")
    await store.change("alice", UserChange(group="staff", moves=True))
    await store.create("bob")
    await store.delete("bob")
    await TokenUsage(database).add({("alice", 19_000): 12_345})
    down = Began(kind="server.down", at=1_000.0, cause="refused", server="big")
    await IncidentStore(database).apply(Origin("here:11434"), [down])
    log = RequestLog(database)
    for first in range(0, rows, 500):
        await log.insert(
            [make_record(number, ttft_ms=number / 3, speaker="webui") for number in range(first, first + 500)]
        )
    await database.aclose()
    return created.token


async def rows_of(url: str) -> dict[str, int]:
    """Rows by table."""
    return dict((await database_status(url)).rows)


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A SQLite database to copy."""
    return create_sqlite(tmp_path / "source.sqlite3")


@pytest.fixture(params=["sqlite", "postgresql"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a copy goes: no file, or a database without tables."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "new" / "router.sqlite3")
    else:
        yield request.getfixturevalue("empty_postgresql")


async def test_everything_that_lasts_is_copied(source: str, new: str) -> None:
    """Users with tokens that verify, groups, usage, the log with its totals, the trail; a router starts on it."""
    token = await filled(source)
    tables = await copy_database(source, new, report=silent)
    assert {table.name: table.rows for table in tables} == await rows_of(source) == await rows_of(new)
    assert (await prepare_database(new)).up_to_date
    database = Database(new)
    store = UserStore(database, clock=FakeClock(), cost=4)
    (known,) = (await store.identities()).tokens
    assert verify_token(token.reveal(), known.digest)
    assert [user.group for user in await store.list()] == ["staff"]
    assert await TokenUsage(database).read(["alice"], first_day=0) == {("alice", 19_000): 12_345}
    (newest,) = await RequestLog(database).list(LogFilter(), limit=1)
    assert (newest.ttft_ms, newest.speaker) == ((ROWS - 1) / 3, "webui")
    actions = [entry.action for entry in await AuditLog(database, clock=FakeClock()).list(AuditFilter())]
    assert actions.count("user.create") == 2
    await database.aclose()


async def test_numbers_go_on_behind_the_source_s(source: str, new: str) -> None:
    """The id of a deleted user is never given to another, and new rows of the log have numbers of their own."""
    await filled(source, rows=500)
    await copy_database(source, new, report=silent)
    database = Database(new)
    await UserStore(database, clock=FakeClock(), cost=4).create("carol")
    ids = await database.read(lambda connection: [row.id for row in connection.execute(users.select())])
    assert ids == [1, 3]
    await RequestLog(database).insert([make_record(1)])
    assert (await rows_of(new))["request_log"] == 501
    await database.aclose()


async def test_a_copy_that_was_broken_off_goes_on(source: str, new: str) -> None:
    """Not from the beginning; meanwhile no router starts on the target, and what changed in the source arrives."""
    await filled(source)
    with pytest.raises(Broken):
        await copy_database(source, new, report=broken_at(5_000))
    assert (await check_database(new)).unfinished
    with pytest.raises(ConfigError, match="the same orouter db copy again"):
        await prepare_database(new)
    database = Database(source)
    await UserStore(database, clock=FakeClock(), cost=4).create("late")
    await database.aclose()
    heard: list[int] = []
    await copy_database(
        source, new, report=lambda table, done, _: heard.append(done) if table == "request_log" else None
    )
    assert heard[0] == ROWS
    assert await rows_of(new) == await rows_of(source)


KILLED = """
import asyncio, os, signal, sys
from ollama_router_server.storage.copying import copy_database

source, target, table = sys.argv[1:]

def report(name, done, total):
    if name == table:
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(copy_database(source, target, report=report))
"""


async def test_a_copy_that_is_killed_goes_on(source: str, empty_postgresql: str) -> None:
    """Three times, with SIGKILL: after the log's first step, after the trail, within the last transaction.

    It takes processes, whose connections nobody ends in order: no exception leaves what a kill does.
    """
    await filled(source)
    for table in ("request_log", "audit_log", "tokens"):
        command = [sys.executable, "-c", KILLED, source, empty_postgresql, table]
        killed = await asyncio.to_thread(subprocess.run, command, check=False, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        assert (await check_database(empty_postgresql)).unfinished
    await copy_database(source, empty_postgresql, report=silent)
    assert await rows_of(empty_postgresql) == await rows_of(source)


async def test_another_database_is_not_mixed_in(source: str, new: str, tmp_path: Path) -> None:
    """A copy goes on only with the source that it began with."""
    await filled(source)
    with pytest.raises(Broken):
        await copy_database(source, new, report=broken_at(5_000))
    other = sqlite_url(tmp_path / "other.sqlite3")
    await copy_database(source, other, report=silent)
    with pytest.raises(ConfigError, match="another database"):
        await copy_database(other, new, report=silent)


async def test_a_target_with_rows_is_refused(source: str, new: str) -> None:
    """Nothing is overwritten, and nothing is left changed."""
    await filled(source, rows=500)
    await copy_database(source, new, report=silent)
    with pytest.raises(ConfigError, match=r"not empty: it has rows in .*users"):
        await copy_database(source, new, report=silent)
    assert (await check_database(new)).up_to_date


async def test_a_target_of_something_else_is_refused(source: str, empty_postgresql: str) -> None:
    """Tables of another program are none of ours."""
    with psycopg.connect(empty_postgresql) as connection:
        connection.execute("CREATE TABLE users (id integer)")
    with pytest.raises(ConfigError, match="tables of something else"):
        await copy_database(source, empty_postgresql, report=silent)


async def test_a_copy_that_differs_is_no_copy(source: str, new: str) -> None:
    """A row that something else changed in the target is noticed by its digest, though the count is right."""
    await filled(source)
    with pytest.raises(Broken):
        await copy_database(source, new, report=broken_at(5_000))
    database = Database(new)
    changed = text("UPDATE request_log SET bytes_out = 7 WHERE id = 'request-3'")
    await database.write(lambda connection: connection.execute(changed))
    await database.aclose()
    with pytest.raises(StorageUnavailable, match="request_log differs"):
        await copy_database(source, new, report=silent)
    assert (await check_database(new)).unfinished


async def test_texts_that_only_sqlite_takes_are_fitted(source: str, empty_postgresql: str) -> None:
    """NUL becomes U+FFFD, and what is longer than declared is cut."""
    odd = {"seq": 1, "id": "i" * 70, "started_at": 1.0, "method": "GET", "path": "/a\0b", "status": 200, "attempts": 1}
    odd |= {"streamed": False, "total_ms": 1.0, "tokens_estimated": False, "bytes_in": 0, "bytes_out": 0}
    database = Database(source)
    await database.write(lambda connection: connection.execute(insert(request_log).values(odd)))
    await database.aclose()
    await copy_database(source, empty_postgresql, report=silent)
    with psycopg.connect(empty_postgresql) as connection:
        assert connection.execute("SELECT id, path FROM request_log").fetchall() == [("i" * 64, "/a\ufffdb")]


async def test_a_backup_is_for_its_owner_alone_and_replaces_nothing(database_url: str, tmp_path: Path) -> None:
    """Of SQLite and of PostgreSQL: one SQLite file, whole, with nothing beside it."""
    await filled(database_url, rows=500)
    backup = tmp_path / "backups" / "router.sqlite3"
    await back_up_database(database_url, backup, report=silent)
    assert [path.name for path in backup.parent.iterdir()] == ["router.sqlite3"]
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with pytest.raises(ConfigError, match="replaces nothing"):
        await back_up_database(database_url, backup, report=silent)


async def test_a_backup_that_was_broken_off_leaves_no_file(source: str, tmp_path: Path) -> None:
    """Half a backup must not be taken for one."""
    await filled(source)
    backup = tmp_path / "backups" / "router.sqlite3"
    with pytest.raises(Broken):
        await back_up_database(source, backup, report=broken_at(5_000))
    assert list(backup.parent.iterdir()) == []


async def test_what_a_router_writes_meanwhile_is_not_in_a_backup(source: str, tmp_path: Path) -> None:
    """A backup is of one moment, and the router is not held up by it."""
    await filled(source)
    path = source.removeprefix("sqlite:///")

    def write(table: str, done: int, _total: int) -> None:
        if table == "request_log" and done == 5_000:
            with closing(sqlite3.connect(path, timeout=0)) as connection, connection:
                connection.execute("UPDATE users SET name = 'mallory'")
                connection.execute("DELETE FROM request_log WHERE seq > 5500")

    backup = tmp_path / "backup.sqlite3"
    tables = await back_up_database(source, backup, report=write)
    assert {table.name: table.rows for table in tables}["request_log"] == ROWS
    with closing(sqlite3.connect(backup)) as connection:
        assert connection.execute("SELECT name FROM users").fetchall() == [("alice",)]


async def test_a_restored_database_is_as_it_was(database_url: str, tmp_path: Path) -> None:
    """Users made since are gone, those deleted are back with their tokens, routers read them anew, the trail tells."""
    token = await filled(database_url, rows=500)
    backup = tmp_path / "backup.sqlite3"
    await back_up_database(database_url, backup, report=silent)
    database = Database(database_url)
    store = UserStore(database, clock=FakeClock(), cost=4)
    await store.delete("alice")
    await store.create("mallory")
    epoch = await store.epoch()
    await restore_database(backup, database_url, entry=ENTRY, report=silent)
    (known,) = (await store.identities()).tokens
    assert verify_token(token.reveal(), known.digest)
    assert [user.name for user in await store.list()] == ["alice"]
    assert await store.epoch() > epoch
    assert (await AuditLog(database, clock=FakeClock()).list(AuditFilter(), limit=1))[0].action == "db.restore"
    await store.create("carol")
    await database.aclose()


async def test_a_restore_that_fails_changes_nothing(database_url: str, tmp_path: Path) -> None:
    """It is one transaction."""
    await filled(database_url, rows=500)
    backup = tmp_path / "backup.sqlite3"
    await back_up_database(database_url, backup, report=silent)
    before = await rows_of(database_url)

    def fail(table: str, _done: int, _total: int) -> None:
        if table == "tokens":
            raise Broken

    with pytest.raises(Broken):
        await restore_database(backup, database_url, entry=ENTRY, report=fail)
    assert await rows_of(database_url) == before


async def test_only_a_backup_is_restored(source: str, tmp_path: Path) -> None:
    """Not a missing file, nor the database itself, nor what is no database."""
    with pytest.raises(StorageUnavailable, match="is gone"):
        await restore_database(tmp_path / "none", source, entry=ENTRY, report=silent)
    with pytest.raises(ConfigError, match="is the database itself"):
        await restore_database(tmp_path / "source.sqlite3", source, entry=ENTRY, report=silent)
    notes = tmp_path / "notes.txt"
    notes.write_text("not a database" * 100, encoding="utf-8")
    with pytest.raises(StorageUnavailable):
        await restore_database(notes, source, entry=ENTRY, report=silent)
