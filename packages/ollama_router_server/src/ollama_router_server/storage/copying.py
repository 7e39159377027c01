"""Copies of whole databases: moving to another engine, backing up and restoring are the same work.

The source is read as it was at one moment, while routers go on. The large tables are committed in steps, and a copy
that was broken off goes on behind them; everything else is written with the check, in the last transaction. Until then
the target's revision says that it is unfinished, and no router starts on it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from sqlalchemy import Table, inspect, select, text, update
from sqlalchemy.engine import Connection

from ollama_router_core.errors import ConfigError, StorageUnavailable
from ollama_router_server.storage.audit_log import AuditEntry, insert_entry
from ollama_router_server.storage.database import Database, create_sqlite_file, describe_url, sqlite_url
from ollama_router_server.storage.schema import auth_epoch, console_claims, console_sessions
from ollama_router_server.storage.schema_lock import lock_schema
from ollama_router_server.storage.table_copies import (
    COPIED,
    GROWING,
    CopiedTable,
    Report,
    append_rows,
    compare_rows,
    continue_numbers,
    count_rows,
    replace_rows,
)
from ollama_router_server.storage.upgrade import (
    UNFINISHED,
    create_tables,
    read_state,
    refuse_unknown,
    set_revision,
    upgrade_database,
)

__all__ = ["back_up_database", "copy_database", "restore_database"]

_SMALL = tuple(table for table in COPIED if table not in GROWING)
_PATIENCE = 30.0  # seconds for another's lock


async def copy_database(source_url: str, target_url: str, *, report: Report) -> tuple[CopiedTable, ...]:
    """Copy a database into an empty one, or go on with such a copy; every table is compared at the end.

    Args:
        source_url: routers may be running on it.
        target_url: a SQLite file is made.
        report: called in another thread.

    Raises:
        ConfigError: the target is not empty, or the source is not of this release.
        StorageUnavailable: one of them cannot answer, or they differ at the end.
    """
    source, target = Database(source_url), Database(target_url, busy_timeout=_PATIENCE)
    if target.path is not None:
        create_sqlite_file(target.path)
    try:
        return await source.read(_copy, target, _mark(source_url), report)
    finally:
        await source.aclose()
        await target.aclose()


async def back_up_database(url: str, path: Path, *, report: Report) -> tuple[CopiedTable, ...]:
    """Copy a database into a new SQLite file, which only its owner can read; it appears once it is whole.

    Raises:
        ConfigError: there is such a file, or the database is not of this release.
        StorageUnavailable: as `copy_database`.
    """
    draft = _draft_of(path)
    try:
        tables = await copy_database(url, sqlite_url(draft), report=report)
        _publish(draft, path)
    finally:
        _delete_sqlite(draft)
    return tables


async def restore_database(path: Path, url: str, *, entry: AuditEntry, report: Report) -> tuple[CopiedTable, ...]:
    """Put a backup's rows in the place of everything in a database, in one transaction.

    Sessions end. Routers that run on the database see the restored users at once.

    Args:
        path: what `back_up_database` made, or a SQLite database of this release.
        url: a missing SQLite file is made, and tables where there are none.
        entry: what the restored audit trail says of it.
        report: called in another thread.

    Raises:
        ConfigError: one of the two is not of this release.
        StorageUnavailable: there is no such file, or one of them cannot answer; nothing was changed.
    """
    backup, target = Database(sqlite_url(path)), Database(url, busy_timeout=_PATIENCE)
    if backup.path == target.path:
        raise ConfigError(f"{path} is the database itself")
    try:
        await backup.read(_require_current, "backup")
        await upgrade_database(url)
        return await backup.read(_restore, target, entry, report)
    finally:
        await backup.aclose()
        await target.aclose()


def _copy(source: Connection, target: Database, mark: str, report: Report) -> tuple[CopiedTable, ...]:
    _require_current(source, "source")
    with target.writing() as connection:
        _begin(connection, mark)
    for table in GROWING:
        _append_all(source, target, table, report)
    with target.writing() as connection:
        lock_schema(connection)
        replace_rows(source, connection, _SMALL, report)
        tables = _finish(source, connection)
        set_revision(connection, read_state(source).newest)
        return tables


def _append_all(source: Connection, target: Database, table: Table, report: Report) -> None:
    """Add a growing table's rows in steps, each of which stays if the next one is broken off."""
    total = count_rows(source, table)
    with target.writing() as connection:
        done = count_rows(connection, table)
    if done == total:
        report(table.name, done, total)
    added = True
    while added:
        with target.writing() as connection:
            added = bool(rows := append_rows(source, connection, table))
        done += rows
        if added:
            report(table.name, done, total)


def _begin(connection: Connection, mark: str) -> None:
    lock_schema(connection)
    state = read_state(connection)
    if state.current is None:
        if found := inspect(connection).get_table_names():
            raise ConfigError(f"the target is not empty: it has tables of something else ({', '.join(found[:3])})")
        create_tables(connection, mark)
        return
    if state.current == mark:
        return
    if state.unfinished:
        raise ConfigError("a copy of another database into the target was broken off; finish that, or empty the target")
    refuse_unknown(state)
    if filled := [table.name for table in COPIED if _has_rows(connection, table)]:
        raise ConfigError(f"the target is not empty: it has rows in {', '.join(filled)}; name a new database")
    if not state.up_to_date:
        raise ConfigError(f"the target is at revision {state.current}; run orouter db upgrade on it, or name a new one")
    set_revision(connection, mark)


def _has_rows(connection: Connection, table: Table) -> bool:
    return connection.execute(select(1).select_from(table).limit(1)).first() is not None


def _restore(backup: Connection, target: Database, entry: AuditEntry, report: Report) -> tuple[CopiedTable, ...]:
    with target.writing() as connection:
        lock_schema(connection)
        if connection.dialect.name == "postgresql":  # what is written meanwhile would be in neither
            names = ", ".join(table.name for table in (*COPIED, console_sessions, console_claims))
            connection.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
        replace_rows(backup, connection, COPIED, report)
        tables = _finish(backup, connection)
        insert_entry(connection, entry)
        return tables


def _finish(source: Connection, target: Connection) -> tuple[CopiedTable, ...]:
    """Compare both, and let routers read the users anew."""
    tables = tuple(compare_rows(source, target, table) for table in COPIED)
    for table in COPIED:
        continue_numbers(source, target, table)
    epochs = [connection.execute(select(auth_epoch.c.epoch)).scalar_one() for connection in (source, target)]
    target.execute(update(auth_epoch).values(epoch=max(epochs) + 1))
    return tables


def _require_current(connection: Connection, what: str) -> None:
    state = read_state(connection)
    refuse_unknown(state)
    if not state.up_to_date:
        raise ConfigError(
            f"the {what} is at revision {state.current or 'none'}, this release needs {state.newest}; "
            "run orouter db upgrade with OROUTER_DATABASE_URL set to it"
        )


def _mark(url: str) -> str:
    """Tell which database is being copied, in as many characters as a revision may have."""
    return UNFINISHED + blake2b(describe_url(url).encode(), digest_size=8).hexdigest()


def _draft_of(path: Path) -> Path:
    """Return where a backup is written until it is whole, with nothing left there of an earlier one."""
    if path.exists():
        raise ConfigError(f"{path} exists; a backup replaces nothing")
    draft = path.absolute().with_name(f"{path.name}.partial")
    _delete_sqlite(draft)
    return draft


def _publish(draft: Path, path: Path) -> None:
    """Give a whole file its name, on the disk too."""
    try:
        _sync(draft)
        os.link(draft, path)  # which refuses to replace a file, as a rename does not
        _sync(path.absolute().parent)
    except OSError as error:
        raise StorageUnavailable(f"cannot write {path}: {error.strerror}") from error


def _delete_sqlite(path: Path) -> None:
    for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        with suppress(FileNotFoundError):
            part.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
