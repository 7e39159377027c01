"""Inserts and deletes rows of the request log, with its totals by hour and day and its latencies by hour.

A transaction that inserts or deletes rows also updates the totals, so that both always agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, get_args

from msgspec.structs import astuple
from sqlalchemy import URL, BigInteger, ColumnElement, Insert, bindparam, delete, func, literal, select, text, union_all
from sqlalchemy.engine import Connection
from sqlalchemy.sql.compiler import SQLCompiler

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.dialect import adding_into
from ollama_router_server.storage.log_totals import DAY, HOUR, Dimension, Measure, band, rows_where, start_of, sums_of
from ollama_router_server.storage.schema import log_latencies, log_totals, request_log

__all__ = ["add_rows", "delete_empty", "delete_oldest", "insert_records", "last_number"]

_DELETED_AT_ONCE = 2_000
_ROWS_A_STATEMENT = 100
_WRITER_LOCK = 0x6F726C67  # an arbitrary number that no other lock on the server uses


def insert_records(connection: Connection, records: Sequence[RequestRecord], *, again: bool) -> None:
    """Insert rows and add them to the totals; with `again`, skip rows that exist."""
    _be_the_only_writer(connection)
    last = last_number(connection)
    written = _ids_written(connection, records) if again and records else set()
    rows = [astuple(record) for record in records if record.id not in written]
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        _insert_some(connection, rows[start : start + _ROWS_A_STATEMENT])
    if rows:
        add_rows(connection, after=last)


def add_rows(connection: Connection, *, after: int) -> None:
    """Add the rows with numbers greater than `after` to the totals."""
    for statement in _adding(f"{connection.dialect.name}+{connection.dialect.driver}"):
        values = statement.construct_params({"after": after})
        given = values if statement.positiontup is None else tuple([values[name] for name in statement.positiontup])
        connection.exec_driver_sql(str(statement), given)


def delete_oldest(connection: Connection, condition: ColumnElement[bool], count: int = _DELETED_AT_ONCE) -> int:
    """Delete the oldest `count` rows, and rows that began at the same time as the last of them; return how many."""
    _be_the_only_writer(connection)
    started_at = request_log.c.started_at
    oldest = select(started_at).where(condition).order_by(started_at).limit(count).subquery()
    last = connection.execute(select(func.max(oldest.c.started_at))).scalar_one()
    if last is None:
        return 0
    for statement in _changes(connection.dialect.name, condition, started_at <= last, sign=-1):
        connection.execute(statement)
    return connection.execute(delete(request_log).where(condition, started_at <= last)).rowcount


def delete_empty(connection: Connection) -> None:
    """Delete totals with no requests left."""
    for table in (log_totals, log_latencies):
        connection.execute(delete(table).where(table.c.requests == 0))


def last_number(connection: Connection) -> int:
    """Return the number of the newest row, 0 if there is none."""
    return int(connection.execute(select(func.coalesce(func.max(request_log.c.seq), 0))).scalar_one())


def _be_the_only_writer(connection: Connection) -> None:
    """Make other processes that write rows wait for the end of this transaction; SQLite does so anyway.

    Numbers then follow the order of commits, only this transaction's rows change the totals, and writers cannot
    deadlock.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITER_LOCK})


def _ids_written(connection: Connection, records: Sequence[RequestRecord]) -> set[str]:
    """Return the ids of records that the log already has, found by their start times."""
    columns = request_log.c
    began = [record.started_at for record in records]
    then = columns.started_at.between(min(began), max(began))
    query = select(columns.id).where(then, columns.id.in_([record.id for record in records]))
    return set(connection.execute(query).scalars())


def _insert_some(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows with one statement through the driver: SQLAlchemy's processing of 30 columns costs 11 us a row.

    With one statement per row, the writing thread would wait for the GIL once per row: up to 5 ms on a busy router,
    with the database locked.
    """
    dialect, fields = connection.dialect, RequestRecord.__struct_fields__
    names = ", ".join(map(dialect.identifier_preparer.quote, fields))
    row = f"({', '.join(['?' if dialect.paramstyle == 'qmark' else '%s'] * len(fields))})"
    statement = f"INSERT INTO {request_log.name} ({names}) VALUES {', '.join([row] * len(rows))}"  # noqa: S608
    connection.exec_driver_sql(statement, tuple(chain.from_iterable(rows)))


@cache
def _adding(driver: str) -> tuple[SQLCompiler, ...]:
    """Compile the statements that follow each batch of rows, in the driver's parameter style.

    Compilation takes 15 ms, during which requests wait for the GIL, so cache it per process rather than per database.
    """
    dialect = URL.create(driver).get_dialect()()
    statements = _changes(dialect.name, request_log.c.seq > bindparam("after"), sign=1)
    return tuple([statement.compile(dialect=dialect) for statement in statements])


def _changes(backend: str, *conditions: ColumnElement[bool], sign: int) -> tuple[Insert, ...]:
    """Return statements that add (`sign` 1) or subtract (-1) the matching rows in both tables of totals."""
    rows = rows_where(*conditions)
    starts = {span: start_of(span, backend, rows.c.started_at).label("start") for span in (HOUR, DAY)}
    sums = [sign * each for each in sums_of(rows)]
    totals = (
        select(literal(span, BigInteger), start, literal(one), rows.c[one], *sums).group_by("start", rows.c[one])
        for span, start in starts.items()
        for one in get_args(Dimension)
    )
    latencies = (
        select(starts[HOUR], literal(one), band(backend, rows.c[one]).label("least_ms"), sign * func.count())
        .where(rows.c[one].is_not(None))
        .group_by("start", "least_ms")
        for one in get_args(Measure)
    )
    return (
        adding_into(backend, log_totals).from_select(log_totals.c.keys(), union_all(*totals)),
        adding_into(backend, log_latencies).from_select(log_latencies.c.keys(), union_all(*latencies)),
    )
