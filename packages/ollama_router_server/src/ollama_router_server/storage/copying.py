"""Copies of whole databases: migration to another engine, backup and restore share this code.

The source is read as one snapshot while routers keep running. The large tables are committed in steps, and an
interrupted copy resumes after the last step; all other tables are written and verified in the last transaction. Until
then the target's revision marks it as unfinished, and no router starts on it.
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
_PATIENCE = 30.0  # seconds to wait for a lock


async def copy_database(source_url: str, target_url: str, *, report: Report) -> tuple[CopiedTable, ...]:
    """Copy a database into an empty one, or resume such a copy; compare every table at the end.

    Args:
        source_url: routers may be running on it.
        target_url: a SQLite file is created.
        report: called in another thread.

    Raises:
        ConfigError: the target is not empty, or the source is not at this release's revision.
        StorageUnavailable: a database cannot answer, or the two differ at the end.
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
    """Copy a database into a new SQLite file that only its owner can read; the file appears once it is complete.

    Raises:
        ConfigError: the file exists, or the database is not at this release's revision.
        StorageUnavailable: see `copy_database`.
    """
    draft = _draft_of(path)
    try:
        tables = await copy_database(url, sqlite_url(draft), report=report)
        _publish(draft, path)
    finally:
        _delete_sqlite(draft)
    return tables


async def restore_database(path: Path, url: str, *, entry: AuditEntry, report: Report) -> tuple[CopiedTable, ...]:
    """Replace everything in a database by a backup's rows, in one transaction.

    Sessions end. Routers on the database see the restored users at once.

    Args:
        path: the output of `back_up_database`, or a SQLite database at this release's revision.
        url: a missing SQLite file and missing tables are created.
        entry: the entry for the restored audit trail.
        report: called in another thread.

    Raises:
        ConfigError: a database is not at this release's revision.
        StorageUnavailable: the file does not exist, or a database cannot answer; nothing was changed.
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
    """Append a growing table's rows in steps; committed steps survive an interruption."""
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
        if connection.dialect.name == "postgresql":  # rows written during the restore would be lost
            names = ", ".join(table.name for table in (*COPIED, console_sessions, console_claims))
            connection.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
        replace_rows(backup, connection, COPIED, report)
        tables = _finish(backup, connection)
        insert_entry(connection, entry)
        return tables


def _finish(source: Connection, target: Connection) -> tuple[CopiedTable, ...]:
    """Compare both databases, and increment the epoch so that routers reload the users."""
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
    """Return the revision that marks an unfinished copy of this database, short enough for the column."""
    return UNFINISHED + blake2b(describe_url(url).encode(), digest_size=8).hexdigest()


def _draft_of(path: Path) -> Path:
    """Return the path of an unfinished backup, after deleting an older one there."""
    if path.exists():
        raise ConfigError(f"{path} exists; a backup replaces nothing")
    draft = path.absolute().with_name(f"{path.name}.partial")
    _delete_sqlite(draft)
    return draft


def _publish(draft: Path, path: Path) -> None:
    """Rename a complete file to its final name, durably."""
    try:
        _sync(draft)
        os.link(draft, path)  # unlike a rename, refuses to replace a file
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
