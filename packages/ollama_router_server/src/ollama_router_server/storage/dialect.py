"""SQL that differs between SQLite and PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ColumnElement, Table, cast, func, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

__all__ = ["adding_into", "give_room", "insert_into", "whole"]


def whole(backend: str, value: ColumnElement[Any]) -> ColumnElement[int]:
    """Truncate a non-negative number: SQLite's cast truncates, PostgreSQL's rounds."""
    return cast(value if backend == "sqlite" else func.floor(value), BigInteger)


def insert_into(backend: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Start an INSERT that supports ON CONFLICT."""
    if backend == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - takes 50 ms, and most installations use SQLite

    return postgresql.insert(table)


def adding_into(backend: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Start an INSERT that, if the row exists, adds to all columns but those of its key."""
    insert = insert_into(backend, table)
    added = {column.name: column + insert.excluded[column.name] for column in table.c if not column.primary_key}
    return insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=added)


def give_room(connection: Connection) -> None:
    """Let this transaction group many rows in memory, without JIT, with as many parallel workers as the server allows.

    The 4 MB default of `work_mem` would sort the statistics of 10,000 users, about 10 MB, on disk; the setting applies
    to every sort and worker, so it is not raised further. JIT compilation of such a query takes up to 2 s. The default
    `parallel_tuple_cost` would make the planner read the log with one process where many rows match.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL work_mem = '16MB'"))
        connection.execute(text("SET LOCAL jit = off"))
        connection.execute(text("SET LOCAL parallel_tuple_cost = 0.01"))
