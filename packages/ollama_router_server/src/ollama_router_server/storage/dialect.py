"""What SQLite and PostgreSQL say differently.

Belongs here: expressions that need two spellings.
Does not belong here: statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Insert, Table, cast, func
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["driver_sql", "insert_into", "whole"]


def whole(backend: str, value: ColumnElement[Any]) -> ColumnElement[int]:
    """The whole part of a number that is not negative. SQLite's cast cuts off; PostgreSQL's would round."""
    return cast(value if backend == "sqlite" else func.floor(value), BigInteger)


def insert_into(backend: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say ON CONFLICT."""
    return sqlite.insert(table) if backend == "sqlite" else postgresql.insert(table)


def driver_sql(backend: str, statement: Insert, columns: Sequence[str]) -> str:
    """The driver's own SQL of an INSERT, for tuples in the order of these columns.

    SQLAlchemy's way of binding a row costs five times what SQLite needs to store it.

    Raises:
        TypeError: the statement takes the columns in another order.
    """
    kind, paramstyle = (sqlite, "qmark") if backend == "sqlite" else (postgresql, "format")
    compiled = statement.compile(dialect=kind.dialect(paramstyle=paramstyle), column_keys=list(columns))
    if tuple(compiled.positiontup or ()) != tuple(columns):
        raise TypeError("the statement's columns stand in another order")
    return str(compiled)
