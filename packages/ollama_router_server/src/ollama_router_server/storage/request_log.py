"""The request log of one database: writes rows, reads rows and statistics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy import func, insert, select
from sqlalchemy.engine import Connection

from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.first_tokens import (
    KINDS,
    FirstTokens,
    UsualSpeed,
    read_first_tokens,
    read_usual_speeds,
)
from ollama_router_server.storage.group_steps import read_group_steps
from ollama_router_server.storage.log_count import read_count
from ollama_router_server.storage.log_days import DayGroup, read_day
from ollama_router_server.storage.log_filter import Cursor, LogFilter
from ollama_router_server.storage.log_hours import HourSums, read_hours
from ollama_router_server.storage.log_series import LogSeries, SeriesRow, read_series
from ollama_router_server.storage.log_stats import HourRow, LogStats, read_history, read_stats
from ollama_router_server.storage.log_totals import HOUR
from ollama_router_server.storage.log_writer import delete_empty, delete_oldest, insert_records, last_number
from ollama_router_server.storage.schema import log_drops, log_totals, request_log

__all__ = ["LogPage", "ModelUse", "RequestLog", "select_page", "select_records"]

_FIELDS = RequestRecord.__struct_fields__
_COLUMNS = tuple(request_log.c[name] for name in _FIELDS)
_LOOKED_AT = 100_000
_SEARCHED = 50_000
_FOLLOWED_AT_ONCE = 1_000
_LEAST_ID = "0" * 28


class ModelUse(NamedTuple):
    """Requests for a model, and the start of their last hour (seconds since 1970)."""

    requests: int
    last_hour: float


class LogPage(NamedTuple):
    """Rows, newest first, and the cursor of the next page, None after the last.

    `searched_back_to` is the time (seconds since 1970) of the oldest row searched, if the search limit ended the page;
    the next page continues from there.
    """

    records: tuple[RequestRecord, ...]
    next: Cursor | None
    searched_back_to: float | None = None


class RequestLog:
    """The request log of one database.

    Args:
        database: stores the log.
        few_rows: the most rows counted individually, for exact percentiles.
        searched: the most rows searched for a page if the filter has no index.
    """

    def __init__(self, database: Database, *, few_rows: int = 20_000, searched: int = _SEARCHED) -> None:
        self._database = database
        self._few_rows = few_rows
        self._searched = searched

    async def insert(self, records: Sequence[RequestRecord], *, again: bool = False) -> None:
        """Write all rows and update the totals, or change nothing.

        Args:
            records: the rows.
            again: skip rows written already, for example by a commit whose reply was lost.

        Raises:
            StorageUnavailable: the database cannot write them now.
            DBAPIError, OverflowError, UnicodeError: the database always rejects a value.
        """
        await self._database.write(insert_records, records, again=again)

    async def note_dropped(self, count: int, *, now: float) -> None:
        """Record that `count` rows were lost until `now` (seconds since 1970).

        Raises:
            StorageUnavailable: the database cannot write it now.
        """
        note = insert(log_drops).values(recorded_at=now, dropped=count)
        await self._database.write(lambda connection: connection.execute(note))

    async def list(self, chosen: LogFilter, *, limit: int = 50) -> tuple[RequestRecord, ...]:
        """List rows, newest first, at most `limit`."""
        return await self._database.read(select_records, chosen, limit=limit)

    async def page(self, chosen: LogFilter, *, after: Cursor | None = None, limit: int = 50) -> LogPage:
        """Read a page of rows, newest first; a search may end it early, then it says how far it searched."""
        return await self._database.read(select_page, chosen, after, limit, self._searched)

    async def group_steps(
        self, names: Sequence[str], *, since: float, before: float, step: int
    ) -> dict[str, dict[int, int]]:
        """Count the requests of each group by the start (seconds since 1970) of the hour or day."""
        return await self._database.read(read_group_steps, names, since=since, before=before, step=step)

    async def count(self, chosen: LogFilter) -> int | None:
        """Count the rows of a filter, mostly from the totals; None if only a scan could tell."""
        return await self._database.read(read_count, chosen)

    async def find(self, request_id: str, *, since: float, before: float) -> RequestRecord | None:
        """Find the row of a request that began in this time range (seconds since 1970); ids have no index."""
        return await self._database.read(_find, request_id, since, before)

    async def stats(self, chosen: LogFilter) -> LogStats:
        """Return statistics of all rows of a filter; the rows themselves stay in the database.

        If more than `few_rows` rows match, percentiles come from bands: at most 1 ms, or from 100 ms on 1 in 100, below
        the true value.
        """
        return await self._database.read(read_stats, chosen, few_rows=self._few_rows)

    async def first_tokens(self, chosen: LogFilter, *, kinds: Collection[str] = KINDS) -> FirstTokens:
        """Return percentiles of the time to first byte over the newest rows of a filter, by `kinds`."""
        return await self._database.read(read_first_tokens, chosen, kinds=kinds)

    async def usual_speeds(self, *, since: float) -> dict[str, UsualSpeed]:
        """Return each model's usual speeds since `since`, from the newest 5,000 responses."""
        return await self._database.read(lambda connection: read_usual_speeds(connection, since=since))

    async def users_of_model(self, model: str, *, since: float) -> tuple[tuple[str | None, int], ...]:
        """Count a model's requests by user since `since`, most first, in the newest 100,000 rows."""
        return await self._database.read(_users_of_model, canonical_name(model), since)

    async def use_of_models(self, *, since: float, before: float) -> Mapping[CanonicalName, ModelUse]:
        """Count the requests of each model in these hours, with the last hour of use, from the totals."""
        return await self._database.read(_use_of_models, int(since) // HOUR, int(before) // HOUR)

    async def history(self, chosen: LogFilter) -> tuple[HourRow, ...]:
        """Return totals by hour, oldest first; the first hour is whole, hours without requests are omitted."""
        return await self._database.read(read_history, chosen)

    async def hours(self, since: int, before: int) -> tuple[HourSums, ...]:
        """Read the sums of the hours that begin in a time range (seconds since 1970), from the totals alone."""
        return await self._database.read(read_hours, since, before)

    async def series(self, chosen: LogSeries) -> AsyncIterator[tuple[SeriesRow, ...]]:
        """Yield totals by step and name in pieces, one transaction each, so that an export blocks no writer."""
        rows = await self._database.read(read_series, chosen, None)
        while rows:
            yield rows
            rows = await self._database.read(read_series, chosen, rows[-1])

    async def day(self, begin: int) -> tuple[DayGroup, ...]:
        """Count the requests of the day that begins at `begin` (seconds since 1970) in steps of two minutes."""
        return await self._database.read(read_day, begin)

    async def cleanup(self, *, before: float, batch: int = 2_000) -> int:
        """Delete rows older than `before` (seconds since 1970); return how many.

        Each batch is a transaction of its own, so that the log's writer can run between batches.
        """
        gone = 0
        while deleted := await self._database.write(delete_oldest, request_log.c.started_at < before, batch):
            gone += deleted
        if gone:
            await self._database.write(delete_empty)
        return gone

    async def start_of_newest(self, count: int) -> float | None:
        """Return the start time of the oldest of the newest `count` rows; None if there are no more rows than that."""
        columns = request_log.c
        newest = select(columns.started_at).order_by(columns.started_at.desc(), columns.seq.desc())
        query = newest.offset(max(0, count - 1)).limit(2)
        starts = await self._database.read(lambda connection: connection.execute(query).scalars().all())
        return starts[0] if len(starts) > 1 else None

    async def newer_than(self, seq: int, chosen: LogFilter) -> tuple[int, tuple[RequestRecord, ...]]:
        """Return up to 1,000 rows written after row number `seq`, in that order, and the number for the next call."""
        columns = request_log.c
        query = select(columns.seq, *_COLUMNS).where(columns.seq > seq, *chosen.conditions())
        query = query.order_by(columns.seq).limit(_FOLLOWED_AT_ONCE)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return (rows[-1].seq if rows else seq), tuple(_record(row[1:]) for row in rows)

    async def last_number(self) -> int:
        """Return the number of the newest row, 0 if there is none."""
        return await self._database.read(last_number)


def select_records(
    connection: Connection, chosen: LogFilter, *, limit: int, after: Cursor | None = None
) -> tuple[RequestRecord, ...]:
    """Return rows, newest first, at most `limit`, after the cursor `after`, in an open transaction."""
    columns = request_log.c
    behind = () if after is None else (after.older(),)
    newest = select(*_COLUMNS).order_by(columns.started_at.desc(), columns.id.desc())
    rows = connection.execute(newest.where(*chosen.conditions(), *behind).limit(limit))
    return tuple(_record(row) for row in rows)


def select_page(connection: Connection, chosen: LogFilter, after: Cursor | None, limit: int, searched: int) -> LogPage:
    """Read a page; without an index, scan at most `searched` rows, so that a long log does not delay the reader."""
    bound = None if chosen.is_indexed else _searched_back_to(connection, chosen.indexed, after, searched)
    bounded = chosen if bound is None else replace(chosen, since=bound)
    records = select_records(connection, bounded, limit=limit + 1, after=after)
    if len(records) > limit:
        return LogPage(records[:limit], Cursor(records[limit - 1].started_at, records[limit - 1].id))
    return LogPage(records, None if bound is None else Cursor(bound, _LEAST_ID), bound)


def _searched_back_to(connection: Connection, chosen: LogFilter, after: Cursor | None, count: int) -> float | None:
    """Return the start time of the last of `count` rows, from the index alone; None if there are no more rows."""
    started_at = request_log.c.started_at
    behind = () if after is None else (started_at <= after.started_at,)
    query = select(started_at).where(*chosen.conditions(), *behind).order_by(started_at.desc())
    begun = connection.execute(query.offset(count - 1).limit(2)).scalars().all()
    return begun[0] if len(begun) > 1 else None


def _users_of_model(connection: Connection, model: str, since: float) -> tuple[tuple[str | None, int], ...]:
    columns = request_log.c
    newest = select(columns.user, columns.model_served).where(columns.started_at >= since)
    rows = newest.order_by(columns.started_at.desc()).limit(_LOOKED_AT).subquery()
    served = rows.c.model_served.in_((model, model.removesuffix(":latest")))
    query = select(rows.c.user, func.count()).where(served).group_by(rows.c.user).order_by(func.count().desc())
    return tuple((user, int(requests)) for user, requests in connection.execute(query))


def _use_of_models(connection: Connection, first: int, last: int) -> dict[CanonicalName, ModelUse]:
    """Sum totals by canonical name; list the hours one by one, so that the key skips the rows of users."""
    columns = log_totals.c
    hours = columns.start.in_([number * HOUR for number in range(first, last + 1)])
    ours = (columns.span == HOUR, hours, columns.dimension == "model", columns.name != "")
    query = select(columns.name, func.sum(columns.requests), func.max(columns.start)).where(*ours)
    found: dict[CanonicalName, ModelUse] = {}
    for spelled, requests, start in connection.execute(query.group_by(columns.name)):
        name = canonical_name(spelled)
        known = found.get(name, ModelUse(0, 0.0))
        found[name] = ModelUse(known.requests + int(requests), max(known.last_hour, float(start)))
    return found


def _find(connection: Connection, request_id: str, since: float, before: float) -> RequestRecord | None:
    columns = request_log.c
    query = select(*_COLUMNS).where(columns.id == request_id, columns.started_at.between(since, before))
    row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else _record(row)


def _record(row: Sequence[Any]) -> RequestRecord:
    return RequestRecord(**dict(zip(_FIELDS, row, strict=True)))
