"""Rows of one table in two databases: copying in steps, counting, comparing, continuing the numbering."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Double, Select, String, Table, delete, func, insert, select, text
from sqlalchemy.engine import Connection

from ollama_router_core.errors import StorageUnavailable
from ollama_router_server.storage.schema import audit_log, log_drops, metadata, request_log

__all__ = [
    "COPIED",
    "GROWING",
    "CopiedTable",
    "Report",
    "append_rows",
    "compare_rows",
    "continue_numbers",
    "count_rows",
    "replace_rows",
]

Report = Callable[[str, int, int], None]
"""Receives progress: a table's name, its rows done, its total rows."""

_OF_THE_MOMENT = frozenset({"activity", "auth_epoch", "console_claims", "console_sessions"})
_ROWS_AT_ONCE = 5_000
_DIGEST_BYTES = 16

COPIED: tuple[Table, ...] = tuple(table for table in metadata.sorted_tables if table.name not in _OF_THE_MOMENT)
"""The tables of a copy, referenced tables first: all but sessions and the current state of processes."""

GROWING: tuple[Table, ...] = (request_log, audit_log, log_drops)
"""Large tables that only grow, with increasing numbers."""

_encode = msgspec.json.Encoder().encode


class CopiedTable(Struct, frozen=True, kw_only=True):
    """A table that is identical in both databases; the digest does not depend on the order of rows."""

    name: str
    rows: int
    digest: str


def count_rows(connection: Connection, table: Table) -> int:
    """Count a table's rows."""
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def append_rows(source: Connection, target: Connection, table: Table) -> int:
    """Append the next rows of a growing table; return how many."""
    (key,) = table.primary_key.columns
    last = target.execute(select(func.max(key))).scalar_one()
    behind = [] if last is None else [key > last]
    query = select(table).where(*behind).order_by(key).limit(_ROWS_AT_ONCE)
    rows = [row for step in _steps(source, table, query) for row in step]
    if rows:
        target.execute(insert(table), rows)
    return len(rows)


def replace_rows(source: Connection, target: Connection, tables: Sequence[Table], report: Report) -> None:
    """Replace the target's rows by the source's; `tables` are in order of reference, referenced tables first."""
    for table in reversed(tables):
        target.execute(delete(table))
    for table in tables:
        total, done = count_rows(source, table), 0
        for rows in _steps(source, table, _all(table)):
            target.execute(insert(table), rows)
            done += len(rows)
            report(table.name, done, total)


def compare_rows(source: Connection, target: Connection, table: Table) -> CopiedTable:
    """Compare all rows of a table in both databases.

    Raises:
        StorageUnavailable: they differ.
    """
    ours, theirs = _digest(source, table), _digest(target, table)
    if ours != theirs:
        raise StorageUnavailable(
            f"{table.name} differs after copying ({ours.rows} rows with digest {ours.digest}, copied {theirs.rows} "
            f"with {theirs.digest}): something else wrote; stop the routers, empty the target, and copy again"
        )
    return ours


def continue_numbers(source: Connection, target: Connection, table: Table) -> None:
    """Continue the numbering after all earlier rows, so that no number is reused, not even that of a deleted row."""
    if table.autoincrement_column is None:
        return
    last = max(_last_number(source, table), _last_number(target, table))
    names = {"table": table.name, "column": table.autoincrement_column.name, "last": last}
    if last and target.dialect.name == "postgresql":
        target.execute(text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)"), names)
    elif last and _is_counted(table):
        target.execute(text("DELETE FROM sqlite_sequence WHERE name = :table"), names)
        target.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :last)"), names)


def _all(table: Table) -> Select[Any]:
    return select(table).order_by(*table.primary_key.columns)


def _steps(connection: Connection, table: Table, query: Select[Any]) -> Iterator[list[dict[str, Any]]]:
    """Read rows in batches, with texts adapted to every database."""
    lengths = {column.name: column.type.length for column in table.c if isinstance(column.type, String)}
    result = connection.execute(query.execution_options(yield_per=_ROWS_AT_ONCE))
    for rows in result.mappings().partitions():
        yield [
            {name: _fit(value, lengths[name]) if name in lengths else value for name, value in row.items()}
            for row in rows
        ]


def _fit(value: str | None, length: int | None) -> str | None:
    """Replace NULs and truncate to the declared length: PostgreSQL rejects both, SQLite neither."""
    return None if value is None else value.replace("\0", "\ufffd")[:length]


def _digest(connection: Connection, table: Table) -> CopiedTable:
    """Add up the digests of the rows, which is independent of the databases' collations."""
    whole = [column.name for column in table.c if isinstance(column.type, Double)]
    count = total = 0
    for rows in _steps(connection, table, _all(table)):
        count += len(rows)
        for row in rows:
            numbers = {name: None if row[name] is None else float(row[name]) for name in whole}
            encoded = _encode(list((row | numbers).values()))
            total += int.from_bytes(blake2b(encoded, digest_size=_DIGEST_BYTES).digest())
    return CopiedTable(name=table.name, rows=count, digest=f"{total % 2 ** (8 * _DIGEST_BYTES):0{2 * _DIGEST_BYTES}x}")


def _last_number(connection: Connection, table: Table) -> int:
    column = table.autoincrement_column
    names = {"table": table.name, "column": "" if column is None else column.name}
    found = connection.execute(select(func.max(column))).scalar_one() or 0
    counted = None
    if connection.dialect.name == "postgresql":
        query = text("SELECT pg_sequence_last_value(pg_get_serial_sequence(:table, :column)::regclass)")
        counted = connection.execute(query, names).scalar_one()
    elif _is_counted(table):
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :table")
        counted = connection.execute(query, names).scalar_one_or_none()
    return max(int(found), int(counted or 0))


def _is_counted(table: Table) -> bool:
    """Return whether SQLite stores the greatest number that a row of the table ever had."""
    return bool(table.dialect_options["sqlite"]["autoincrement"])
