"""Totals by hour and day say exactly what the rows say, wherever a span of time begins and ends."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from functools import partial

import anyio
import pytest
from msgspec.structs import replace
from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_stats import UsageRow, read_stats, tokens_by_day
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.schema import log_latencies, log_totals
from ollama_router_server.storage.user_store import UserStore
from support.records import make_record
from support.storage import FakeClock

pytestmark = pytest.mark.anyio

HOUR = 3_600.0
DAY = 24 * HOUR
START = 500_000 * HOUR  # neither the start of a day nor of anything else


@pytest.fixture
def log(database: Database) -> RequestLog:
    """An empty log that reads totals wherever there are any."""
    return RequestLog(database, few_rows=0)


@pytest.fixture
def exact(database: Database) -> RequestLog:
    """The same log, counting every row."""
    return RequestLog(database)


def some_records(seed: int, count: int) -> list[RequestRecord]:
    """Rows over four days, in the order in which their requests ended: not that in which they began."""
    chance = random.Random(seed)  # noqa: S311 - test data, nothing secret
    return [
        make_record(
            seed * 10_000 + number,
            started_at=START + chance.choice([chance.uniform(0, 96), chance.randrange(96)]) * HOUR,
            user=chance.choice(["alice", "bob", None]),
            model_served=chance.choice(["llama3.1:8b", None]),
            model_asked=chance.choice(["llama3.1:8b", "gpt", None]),
            server=chance.choice(["big", "small", None]),
            status=chance.choice([200, 200, 404, 499, 503]),
            error=chance.choice([None, None, "cut"]),
            total_ms=chance.choice([0.0, 0.9, chance.uniform(0, 200), 10 ** chance.uniform(0, 7.5)]),
            ttft_ms=chance.choice([None, chance.uniform(0, 5_000)]),
            gpu_ms=chance.choice([None, chance.randrange(10_000)]),
            cost_micros=chance.choice([None, None, chance.randrange(10**7)]),
            prompt_tokens=chance.choice([None, chance.randrange(10_000)]),
            completion_tokens=chance.choice([None, chance.randrange(10_000)]),
        )
        for number in range(count)
    ]


SPANS = [
    LogFilter(),
    LogFilter(since=START + 0.5 * HOUR),
    LogFilter(since=START + 3 * HOUR),
    LogFilter(before=START + 70.25 * HOUR),
    LogFilter(since=START + 1.25 * HOUR, before=START + 1.75 * HOUR),
    LogFilter(since=START + 1.25 * HOUR, before=START + 2.75 * HOUR),
    LogFilter(since=START + 7.1 * HOUR, before=START + 80.9 * HOUR),
    LogFilter(since=START + 4 * HOUR, before=START + 76 * HOUR),
    LogFilter(since=START + 1_000 * HOUR),
]


async def agree(log: RequestLog, exact: RequestLog, spans: Sequence[LogFilter] = SPANS) -> None:
    """Both ways of counting say what the rows say."""
    for span in spans:
        rows = await log.list(span, limit=100_000)
        by_totals, by_rows = await log.stats(span), await exact.stats(span)
        for stats in (by_totals, by_rows):
            assert stats.requests == len(rows)
            assert stats.errors == sum(row.status >= 400 or row.error is not None for row in rows)
            assert stats.prompt_tokens == sum(row.prompt_tokens or 0 for row in rows)
            assert stats.completion_tokens == sum(row.completion_tokens or 0 for row in rows)
            assert stats.gpu_ms == sum(row.gpu_ms or 0 for row in rows)
            assert stats.wasted_ms == sum(row.gpu_ms or 0 for row in rows if row.status == 499)
            assert stats.cost_micros == sum(row.cost_micros or 0 for row in rows)
            assert requests(stats.by_user) == Counter(row.user for row in rows)
            assert requests(stats.by_model) == Counter(row.model_served or row.model_asked for row in rows)
            assert requests(stats.by_server) == Counter(row.server for row in rows)
        for measure, times in (
            ("ttft_ms", [row.ttft_ms for row in rows if row.ttft_ms is not None]),
            ("total_ms", [row.total_ms for row in rows]),
        ):
            for percent in (50, 95, 99):
                true = sorted(times)[-(-len(times) * percent // 100) - 1] if times else None
                shown = getattr(getattr(by_totals, measure), f"p{percent}")
                assert getattr(getattr(by_rows, measure), f"p{percent}") == true, (span, measure, percent)
                assert (true is None) is (shown is None)
                if true is not None and true < 10**7:
                    assert shown <= true <= shown + max(1.0, shown / 99), (span, measure, percent)


def requests(usage: Sequence[UsageRow]) -> dict[str | None, int]:
    """Requests by name."""
    return {row.name: row.requests for row in usage}


async def test_totals_and_rows_agree(log: RequestLog, exact: RequestLog) -> None:
    """Whatever was written, in whatever batches, late rows of past hours and days among it."""
    for seed, count in ((1, 200), (7, 50), (2, 100)):
        await log.insert(some_records(seed, count))
        await agree(log, exact)


@pytest.mark.parametrize("span", SPANS)
async def test_hours_are_those_of_the_rows(log: RequestLog, span: LogFilter) -> None:
    """The first is whole, the last ends where the time ends; together they are all that was asked for."""
    await log.insert(some_records(3, 100))
    first = None if span.since is None else span.since // HOUR * HOUR
    rows = await log.list(replace(span, since=first), limit=1_000)
    hours = await log.history(span)
    assert {hour.start: hour.requests for hour in hours} == Counter(row.started_at // HOUR * HOUR for row in rows)
    assert sum(hour.gpu_ms for hour in hours) == sum(row.gpu_ms or 0 for row in rows)


async def test_each_batch_adds_to_the_same_totals(log: RequestLog, database: Database) -> None:
    """The tables grow with hours, days and names, not with batches."""
    await log.insert(some_records(1, 100))
    before = await size(database)
    await log.insert(some_records(1, 100))
    assert await size(database) == before


async def size(database: Database) -> int:
    """Rows of both tables."""
    counts = [select(func.count()).select_from(table) for table in (log_totals, log_latencies)]
    return await database.read(lambda connection: sum(connection.execute(count).scalar_one() for count in counts))


async def test_several_processes_may_write_at_once(log: RequestLog, exact: RequestLog, database_url: str) -> None:
    """Each row counts once, and no two writers wait for each other for ever."""
    others = [Database(database_url) for _ in range(3)]
    try:
        async with anyio.create_task_group() as tasks:
            for seed, other in enumerate(others):
                tasks.start_soon(RequestLog(other).insert, some_records(seed, 200))
        await agree(log, exact)
        assert (await log.stats(LogFilter())).requests == 600
    finally:
        for other in others:
            await other.aclose()


async def test_several_processes_may_clean_up_at_once(log: RequestLog, exact: RequestLog, database_url: str) -> None:
    """A row is subtracted by whoever deletes it, once."""
    await log.insert(some_records(1, 200))
    others = [Database(database_url) for _ in range(3)]
    try:
        async with anyio.create_task_group() as tasks:
            for other in others:
                tasks.start_soon(partial(RequestLog(other).cleanup, before=START + 30.5 * HOUR, batch=20))
        await log.cleanup(before=START + 30.5 * HOUR)
        await agree(log, exact)
    finally:
        for other in others:
            await other.aclose()


async def test_deleted_rows_leave_the_totals(log: RequestLog, exact: RequestLog, database: Database) -> None:
    """By age and with their user, and new rows count again after them; nothing is left of what is gone."""
    users = UserStore(database, clock=FakeClock(), cost=4)
    await users.create("alice")
    await log.insert(some_records(4, 150))
    assert await log.cleanup(before=START + 30.5 * HOUR, batch=17) > 0
    await agree(log, exact)
    assert await users.delete("alice") > 0
    await agree(log, exact)
    names = await database.read(lambda connection: connection.execute(select(log_totals.c.name)).scalars().all())
    assert "alice" not in names
    assert await log.cleanup(before=START + 1_000 * HOUR) > 0
    assert await size(database) == 0
    await log.insert(some_records(6, 30))
    await agree(log, exact, SPANS[:3])


async def test_the_list_of_users_counts_their_requests(log: RequestLog, database: Database) -> None:
    """Over the whole log, from the totals of days."""
    users = UserStore(database, clock=FakeClock(), cost=4)
    await users.create("alice")
    await users.create("carol")
    await log.insert([make_record(number, started_at=DAY * number) for number in range(5)])
    assert [(user.name, user.requests) for user in await users.list()] == [("alice", 5), ("carol", 0)]


async def test_a_log_of_any_age_is_added_up(log: RequestLog, database: Database) -> None:
    """Within the variables that SQLite gives a statement by default: some builds give more."""
    await log.insert([make_record(number, started_at=START - number * 11_000 * DAY) for number in range(2)])

    def read(connection: Connection) -> int:
        if isinstance(plain := connection.connection.driver_connection, sqlite3.Connection):
            plain.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
        return read_stats(connection, LogFilter(), few_rows=0).requests

    assert await database.read(read) == 2


@pytest.mark.parametrize("name", ["al", 'quo"ted', "größe", "back\\slash", "%", "a_ice"])
async def test_a_user_is_found_whatever_the_name(log: RequestLog, database: Database, name: str) -> None:
    """Names that begin like others, or would mean more in a pattern."""
    rows = [make_record(n, user=user, prompt_tokens=n) for n, user in enumerate(["alice", "al,", "ALICE", name, name])]
    await log.insert(rows)
    assert await database.read(tokens_by_day, name, since=0) == {0: 7}
    assert [row.id for row in await log.list(LogFilter(user=name))] == ["request-4", "request-3"]


async def test_names_of_any_length_are_counted(log: RequestLog) -> None:
    """A client may ask for a model with an endless name: its rows are written, its totals cut the name."""
    chance = random.Random(1)  # noqa: S311 - test data, nothing secret
    name = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    await log.insert([make_record(0, model_asked=name, model_served=None)])
    (usage,) = (await log.stats(LogFilter())).by_model
    assert usage.name == name[:200]
    assert (await log.list(LogFilter()))[0].model_asked == name


async def test_where_the_newest_rows_begin(log: RequestLog) -> None:
    """What retention by number of rows needs to know."""
    await log.insert([make_record(number) for number in (3, 1, 2)])
    assert await log.start_of_newest(2) == 1_002.0
    assert await log.start_of_newest(3) is None


async def test_following_a_log(log: RequestLog) -> None:
    """Rows in the order in which they were written, each once."""
    await log.insert([make_record(0)])
    number = await log.last_number()
    assert await log.newer_than(number, LogFilter()) == (number, ())
    await log.insert([make_record(2), make_record(1), make_record(3, user="bob")])
    number, rows = await log.newer_than(number, LogFilter(user="alice"))
    assert [row.id for row in rows] == ["request-2", "request-1"]
    assert (await log.newer_than(number, LogFilter(user="alice")))[1] == ()


@pytest.mark.parametrize("named", [{}, {"user": "alice"}, {"server": "big"}, {"user": "carol"}])
async def test_rows_are_counted_without_reading_them(log: RequestLog, named: dict[str, str]) -> None:
    """As many as there are, wherever a span begins and ends; of a server in whole hours alone."""
    await log.insert(some_records(7, 300))
    for span in SPANS:
        chosen = replace(span, **named)
        beside = any(moment is not None and moment % HOUR for moment in (span.since, span.before))
        expected = len(await log.list(chosen, limit=1_000))
        known = not ("server" in named and beside)
        assert await log.count(chosen) == (expected if known else None), chosen


@pytest.mark.parametrize(
    "chosen",
    [LogFilter(model="gpt"), LogFilter(user="alice", server="big"), LogFilter(ending="ok"), LogFilter(text="alice")],
)
async def test_nothing_is_said_where_only_the_rows_could_tell(log: RequestLog, chosen: LogFilter) -> None:
    """The totals know neither who asked for a model under another name, nor two things at once."""
    await log.insert(some_records(8, 10))
    assert await log.count(chosen) is None


async def test_an_empty_log_has_no_rows(log: RequestLog) -> None:
    """Nor has it a beginning."""
    assert await log.count(LogFilter(since=START)) == 0
