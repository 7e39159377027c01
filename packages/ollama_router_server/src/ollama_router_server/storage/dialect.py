"""What SQLite and PostgreSQL say differently.

Belongs here: expressions that need two spellings.
Does not belong here: statements.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Table, cast, func
from sqlalchemy.dialects import postgresql, sqlite

__all__ = ["insert_into", "whole"]


def whole(backend: str, value: ColumnElement[Any]) -> ColumnElement[int]:
    """The whole part of a number that is not negative. SQLite's cast cuts off; PostgreSQL's would round."""
    return cast(value if backend == "sqlite" else func.floor(value), BigInteger)


def insert_into(backend: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say ON CONFLICT."""
    return sqlite.insert(table) if backend == "sqlite" else postgresql.insert(table)
