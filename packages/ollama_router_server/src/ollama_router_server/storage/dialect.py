"""What SQLite and PostgreSQL say differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ColumnElement, Table, cast, func
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

__all__ = ["insert_into", "whole"]


def whole(backend: str, value: ColumnElement[Any]) -> ColumnElement[int]:
    """The whole part of a number that is not negative. SQLite's cast cuts off; PostgreSQL's would round."""
    return cast(value if backend == "sqlite" else func.floor(value), BigInteger)


def insert_into(backend: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say ON CONFLICT."""
    if backend == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - takes 50 ms, and most installations have no use for it

    return postgresql.insert(table)
