"""Rows of the request log made ready for SQLite: few statements with many values each.

Every call of sqlite3 gives the interpreter away several times, and a thread that wants it back from a busy event loop
is woken by each of the loop's callbacks until it is lucky. So rows are made ready on the event loop's thread, which
has the interpreter anyway, in slices that delay no stream; the writer's thread makes as few calls as can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

from msgspec.structs import astuple

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.log_counting import COUNTED, rows_to_count

__all__ = ["FIELDS", "SLICE", "Bound", "pack", "to_count"]

FIELDS = RequestRecord.__struct_fields__
"""The fields of a row, in the order of the table's columns."""

SLICE = 256
"""Rows made ready, and bound to one statement, in one go: a quarter of a millisecond each."""

Columns = Sequence[tuple[Any, ...]]
"""The values of rows by field, in the order of `FIELDS`."""

_COUNTED = [FIELDS.index(name) for name in COUNTED]
_ALWAYS = {FIELDS.index(name) for name in ("id", "started_at", "total_ms")}  # bound row by row, also for one row
_SIZES = tuple(SLICE >> shift for shift in range(5, -1, -1))  # of statements, which are compiled once each
_SHAPES = 8  # sets of columns that statements are kept for
_SPARE = 4  # columns bound row by row without need, rather than to compile another statement
_SUMS_TOGETHER = 16  # in one statement; a batch has one for each slice, or more if its rows began in several hours
_SUMS = ("start", "span", "in_day", "requests", "totals", "users")

_shapes: list[tuple[int, ...]] = []


class Bound(NamedTuple):
    """A statement and its values."""

    statement: str
    values: list[Any]


async def pack(records: Sequence[RequestRecord]) -> list[Bound]:
    """Statements that write rows and what is to be counted; at least one row.

    Raises:
        OverflowError, UnicodeError: a value that the database would not take either.
    """
    bound: list[Bound] = []
    sums: list[tuple[Any, ...]] = []
    async for columns in _slices(records):
        bound.append(_bind(columns))
        sums += _sums(columns)
    for start in range(0, len(sums), _SUMS_TOGETHER):
        some = sums[start : start + _SUMS_TOGETHER]
        bound.append(Bound(_insert_sums(len(some)), list(chain.from_iterable(some))))
    return bound


async def to_count(records: Sequence[RequestRecord]) -> list[tuple[Any, ...]]:
    """Rows of `log_sums` that say what of these rows is to be counted.

    Raises:
        OverflowError, UnicodeError: a value that the database would not take either.
    """
    return [row async for columns in _slices(records) for row in _sums(columns)]


async def _slices(records: Sequence[RequestRecord]) -> AsyncIterator[Columns]:
    """Columns of few rows at a time; others get their turn before each."""
    for start in range(0, len(records), SLICE):
        await asyncio.sleep(0)
        yield tuple(zip(*map(astuple, records[start : start + SLICE]), strict=True))


def _sums(columns: Columns) -> list[tuple[Any, ...]]:
    return rows_to_count([columns[place] for place in _COUNTED])


def _bind(columns: Columns) -> Bound:
    single, several = _shape(columns)
    rows = len(columns[0])
    together = next(size for size in _SIZES if size >= rows)
    once = [columns[place][0] for place in single]
    values = [*once, *chain.from_iterable(zip(*[columns[place] for place in several], strict=True))]
    values += [0] * ((together - rows) * len(several))
    values.append(rows)
    return Bound(_insert(single, several, together), values)


def _shape(columns: Columns) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Columns bound once, and those bound row by row; a column without values is in neither.

    Half of a row is NULL or what the other rows say, too.
    """
    count = len(columns[0])
    different = {
        place
        for place, column in enumerate(columns)
        if place in _ALWAYS or column[0] != column[-1] or column.count(column[0]) != count
    }
    several = _similar(different)
    single = (place for place, column in enumerate(columns) if place not in several and column[0] is not None)
    return tuple(single), several


def _similar(different: set[int]) -> tuple[int, ...]:
    """A set of columns that was used before and holds these, if there is one that is not much larger."""
    known = min((shape for shape in _shapes if different.issubset(shape)), key=len, default=None)
    if known is not None and len(known) - len(different) <= _SPARE:
        return known
    _shapes.insert(0, tuple(sorted(different)))
    del _shapes[_SHAPES:]
    return _shapes[0]


@lru_cache(maxsize=64)
def _insert(single: tuple[int, ...], several: tuple[int, ...], rows: int) -> str:
    """A statement for values that are the same in each row, the others row by row, and last how many rows there are."""
    columns = ", ".join(f'"{FIELDS[place]}"' for place in (*single, *several))
    row = f"({', '.join('?' * len(several))})"
    return (
        f"INSERT INTO request_log ({columns}) SELECT {'?, ' * len(single)}* "  # noqa: S608 - our own names
        f"FROM (VALUES {', '.join([row] * rows)}) LIMIT ?"
    )


@lru_cache(maxsize=64)
def _insert_sums(rows: int) -> str:
    row = f"({', '.join('?' * len(_SUMS))})"
    return f"INSERT INTO log_sums ({', '.join(_SUMS)}) VALUES {', '.join([row] * rows)}"  # noqa: S608 - our own names
