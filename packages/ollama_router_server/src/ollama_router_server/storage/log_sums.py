"""Sums over the request log by hour and by day: figures over millions of rows come at once.

Belongs here: the shape of sums, counting rows into them, every statement about `log_sums` that changes it.
Does not belong here: figures over a span of time (`log_stats`), when sums are merged (`keeper`).

Whoever writes or deletes rows writes what they add to the sums of their hours in the same transaction, as a row of
its own: the sums are those of the rows at every moment, whoever writes. `merge` makes one row of many, and of the
hours of a past day that day's row. An hour that is part of its day's row stays, for spans of time that cut the day.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.schema import log_sums, request_log

__all__ = [
    "COUNTED",
    "DAY",
    "HOUR",
    "IS_ERROR",
    "MODEL",
    "Sums",
    "add_to_sums",
    "band_of",
    "count_rows",
    "entries_of",
    "forget",
    "key_of",
    "merge",
    "read",
    "rows_of",
]

HOUR = 3_600
DAY = 86_400

_LONGEST_BAND = 10**7  # ms; nearly three hours and everything beyond

IS_ERROR: ColumnElement[bool] = or_(request_log.c.status >= 400, request_log.c.error.is_not(None))
"""What counts as an error: the client got one, or something went wrong after its answer had begun."""

MODEL: ColumnElement[str | None] = func.coalesce(request_log.c.model_served, request_log.c.model_asked)
"""What a row is listed under."""

COUNTED = (
    "started_at",
    "user",
    "model_asked",
    "model_served",
    "server",
    "status",
    "error",
    "prompt_tokens",
    "completion_tokens",
    "ttft_ms",
    "total_ms",
)
"""The fields of a row that count, in the order in which `count_rows` takes them."""

Figures = list[int]
"""Requests, errors, tokens in, tokens out."""


class _Totals(msgspec.Struct):
    """One of the two texts of a row."""

    model: dict[str, Figures]
    server: dict[str, Figures]
    total: dict[int, int]
    ttft: dict[int, int]


_read_totals = msgspec.json.Decoder(_Totals).decode
_read_users = msgspec.json.Decoder(dict[str, Figures]).decode


class Sums:
    """Sums over rows: figures by name ("" for none), and numbers of requests by time in whole milliseconds or bands."""

    __slots__ = ("model", "server", "total", "ttft", "user")

    def __init__(self) -> None:
        self.user: dict[str, Figures] = {}
        self.model: dict[str, Figures] = {}
        self.server: dict[str, Figures] = {}
        self.total: dict[int, int] = defaultdict(int)
        self.ttft: dict[int, int] = defaultdict(int)

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(figures[0] for figures in self.server.values())

    def add(self, other: Sums, sign: int = 1) -> None:
        """Add other sums, or take them out; names and bands of which nothing is left go."""
        for mine, others in ((self.user, other.user), (self.model, other.model), (self.server, other.server)):
            _add_figures(mine, others, sign)
        for bands, more in ((self.total, other.total), (self.ttft, other.ttft)):
            for band, count in more.items():
                bands[band] += sign * count
                if not bands[band]:
                    del bands[band]

    def in_bands(self) -> Sums:
        """The same, with times in bands."""
        self.total, self.ttft = _in_bands(self.total), _in_bands(self.ttft)
        return self


def _add_figures(mine: dict[str, Figures], others: Mapping[str, Figures], sign: int) -> None:
    find = mine.get
    for name, figures in others.items():
        sums = find(name)
        if sums is None:
            mine[name] = figures[:] if sign > 0 else [-figure for figure in figures]
            continue
        requests, errors, tokens_in, tokens_out = figures
        sums[0] += sign * requests
        sums[1] += sign * errors
        sums[2] += sign * tokens_in
        sums[3] += sign * tokens_out
        if not sums[0] and not any(sums):
            del mine[name]


def band_of(milliseconds: int) -> int:
    """The least value of the band that a time falls into: a millisecond wide, from 100 ms on at most a hundredth."""
    if milliseconds < 1_000:
        return milliseconds
    if milliseconds >= _LONGEST_BAND:
        return _LONGEST_BAND
    step: int = 10 ** (len(str(milliseconds)) - 3)
    return milliseconds - milliseconds % step


def _in_bands(times: Mapping[int, int]) -> dict[int, int]:
    bands: dict[int, int] = defaultdict(int)
    for milliseconds, count in times.items():
        bands[band_of(milliseconds)] += count
    return bands


def count_rows(columns: Sequence[Sequence[Any]]) -> dict[int, Sums]:
    """Sums by the hour's start over the columns of `COUNTED` fields of rows, with times in whole milliseconds."""
    if not columns or not columns[0]:
        return {}
    moments = columns[0]
    hour = int(min(moments)) // HOUR * HOUR
    if max(moments) < hour + HOUR:  # nearly always
        return {hour: _count(columns)}
    by_hour: dict[int, list[Sequence[Any]]] = defaultdict(list)
    for row in zip(*columns, strict=True):
        by_hour[int(row[0]) // HOUR * HOUR].append(row)
    return {start: _count(list(zip(*rows, strict=True))) for start, rows in by_hour.items()}


def _count(columns: Sequence[Sequence[Any]]) -> Sums:
    """This is on the way of every row, so it goes by columns, and C does what it can."""
    _, user, asked, served, server, status, error, tokens_in, tokens_out, ttft, total = columns
    model = tuple(map(_first_of, served, asked)) if None in served else served
    place = tuple(zip(model, server, strict=True))
    users, places = _figures(user, tokens_in, tokens_out), _figures(place, tokens_in, tokens_out)
    if max(status) >= 400 or error.count(None) != len(error):
        for name, where, code, text in zip(user, place, status, error, strict=True):
            if code >= 400 or text is not None:
                users[name][1] += 1
                places[where][1] += 1
    return _sums(users, places, Counter(map(int, total)), Counter([int(value) for value in ttft if value is not None]))


def _figures(
    names: Sequence[Any], tokens_in: Sequence[int | None], tokens_out: Sequence[int | None]
) -> dict[Any, Figures]:
    found: dict[Any, Figures] = {}
    find = found.get
    for name, added_in, added_out in zip(names, tokens_in, tokens_out, strict=True):
        figures = find(name)
        if figures is None:
            found[name] = [1, 0, added_in or 0, added_out or 0]
        else:
            figures[0] += 1
            figures[2] += added_in or 0
            figures[3] += added_out or 0
    return found


def _first_of(first: str | None, second: str | None) -> str | None:
    return second if first is None else first


def _sums(
    users: dict[Any, Figures],
    places: Mapping[tuple[str | None, str | None], Figures],
    total: Mapping[int, int],
    ttft: Mapping[int, int],
) -> Sums:
    sums = Sums()
    if None in users:
        users[""] = users.pop(None)
    sums.user = users
    for (model, server), figures in places.items():
        _add_figures(sums.model, {model or "": figures}, 1)
        _add_figures(sums.server, {server or "": figures}, 1)
    sums.total.update(total)
    sums.ttft.update(ttft)
    return sums


def rows_of(hours: Mapping[int, Sums], sign: int = 1) -> list[tuple[Any, ...]]:
    """Sums as rows of `log_sums`: start, span, in_day, requests, totals, users."""
    return [_row(start, HOUR, sums, sign) for start, sums in hours.items()]


def _row(start: int, span: int, sums: Sums, sign: int = 1, *, in_day: bool = False) -> tuple[Any, ...]:
    if sign < 0:
        positive, sums = sums, Sums()
        sums.add(positive, sign)
    sums.in_bands()
    totals = _Totals(sums.model, sums.server, sums.total, sums.ttft)
    return start, span, in_day, sums.requests, _dumps(totals), entries_of(sums.user)


def _dumps(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def entries_of(users: Mapping[str, Figures]) -> str:
    """Users' figures as text: a comma before each, so that SQL finds one user's by looking for `key_of` it."""
    return "," + _dumps(users)[1:-1] if users else ""


def key_of(user: str) -> str:
    """What stands before the figures of a user in a text of `entries_of`, and nowhere else in it."""
    return f",{_dumps(user)}:["


def read(totals: str | None, users: str | None) -> Sums:
    """Sums out of the two texts of a row; None leaves a part empty."""
    sums = Sums()
    if totals is not None:
        document = _read_totals(totals)
        sums.model, sums.server = document.model, document.server
        sums.total.update(document.total)
        sums.ttft.update(document.ttft)
    if users:
        sums.user = _read_users("{" + users[1:] + "}")
    return sums


async def add_to_sums(connection: AsyncConnection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write rows of `rows_of`."""
    names = ("start", "span", "in_day", "requests", "totals", "users")
    if rows:
        await connection.execute(insert(log_sums), [dict(zip(names, row, strict=True)) for row in rows])


async def forget(connection: AsyncConnection, condition: ColumnElement[bool]) -> None:
    """Take rows out of the sums; to be called before they are deleted, in the same transaction."""
    query = select(*(request_log.c[name] for name in COUNTED)).where(condition)
    columns = list(zip(*(await connection.execute(query)).all(), strict=True))
    await add_to_sums(connection, await asyncio.to_thread(lambda: rows_of(count_rows(columns), -1)))


async def merge(database: Database, *, now: float) -> None:
    """Make one row of an hour's rows, and one of each day that ended an hour ago or earlier (seconds since 1970).

    Each hour and each day is a transaction of its own, and what takes long is done before it: the log's writer has to
    wait for none of it.

    Raises:
        StorageUnavailable: the database cannot take it; what was merged before stays.
    """
    columns = log_sums.c
    last = int(now - HOUR) // DAY * DAY
    day = (columns.start - columns.start % DAY).label("day")
    fresh = (columns.span == HOUR) & columns.in_day.is_(False)
    async with database.read() as connection:
        days = (await connection.execute(select(day).where(fresh, columns.start < last).distinct())).scalars().all()
    for start in days:
        await _merge_day(database, int(start))
    hours = select(columns.start, columns.in_day).where(columns.span == HOUR)
    several = hours.group_by(columns.start, columns.in_day).having(func.count() > 1)
    async with database.read() as connection:
        split = (await connection.execute(several)).all()
    for start, in_day in split:
        await _merge_hour(database, start, in_day=in_day)


async def _merge_hour(database: Database, start: int, *, in_day: bool) -> None:
    columns = log_sums.c
    which = (columns.start == start) & (columns.span == HOUR) & columns.in_day.is_(in_day)
    rows = await _rows(database, which)
    row = await asyncio.to_thread(_merged, rows, start, HOUR, in_day=in_day)
    await _replace(database, rows, row)


async def _merge_day(database: Database, start: int) -> None:
    columns = log_sums.c
    of_day = (columns.start >= start) & (columns.start < start + DAY)
    fresh = of_day & (columns.span == HOUR) & columns.in_day.is_(False)
    hours = await _rows(database, fresh)
    before = await _rows(database, of_day & (columns.span == DAY))
    row = await asyncio.to_thread(_merged, [*before, *hours], start, DAY)
    await _replace(database, before, row, folded=hours)


async def _rows(database: Database, which: ColumnElement[bool]) -> Sequence[Any]:
    query = select(log_sums.c.id, log_sums.c.totals, log_sums.c.users).where(which)
    async with database.read() as connection:
        return (await connection.execute(query)).all()


def _merged(rows: Iterable[Any], start: int, span: int, *, in_day: bool = False) -> tuple[Any, ...] | None:
    """One row for many; None if nothing is left of them."""
    sums = Sums()
    for row in rows:
        sums.add(read(row.totals, row.users))
    return _row(start, span, sums, in_day=in_day) if sums.user or sums.total else None


class _OvertakenError(Exception):
    """Another process merged the same rows."""


async def _replace(
    database: Database, rows: Sequence[Any], row: tuple[Any, ...] | None, *, folded: Sequence[Any] = ()
) -> None:
    """Put one row in the place of others, if all of them are still there; the lock is held for that alone."""
    ids = log_sums.c.id
    with suppress(_OvertakenError):
        async with database.write() as connection:
            gone = await connection.execute(delete(log_sums).where(ids.in_([one.id for one in rows])))
            fresh = ids.in_([one.id for one in folded]) & log_sums.c.in_day.is_(False)
            marked = await connection.execute(update(log_sums).where(fresh).values(in_day=True))
            if (gone.rowcount, marked.rowcount) != (len(rows), len(folded)):
                raise _OvertakenError
            await add_to_sums(connection, [row] if row else [])
