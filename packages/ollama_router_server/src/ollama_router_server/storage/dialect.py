"""SQL that SQLite and PostgreSQL spell differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ColumnElement, Table, cast, func
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

__all__ = ["insert_into", "whole"]


def whole(backend: str, value: ColumnElement[Any]) -> ColumnElement[int]:
    """Truncate a non-negative number. SQLite's cast truncates; PostgreSQL's rounds."""
    return cast(value if backend == "sqlite" else func.floor(value), BigInteger)


def insert_into(backend: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Begin an INSERT that takes ON CONFLICT."""
    if backend == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - takes 50 ms, and most installations use SQLite

    return postgresql.insert(table)
