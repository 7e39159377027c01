"""Sums by hour and day say exactly what the rows say, wherever a span of time begins and ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlalchemy import select

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage import log_sums as module
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_stats import hours_with_user, sums_in, tokens_by_day
from ollama_router_server.storage.request_log import LogFilter, LogStats, RequestLog
from ollama_router_server.storage.schema import log_sums
from ollama_router_server.storage.users import UserStore
from support.storage import FakeClock, make_record

pytestmark = pytest.mark.anyio

HOUR = 3_600.0
START = 500_000 * HOUR  # neither the start of a day nor of anything else


@pytest.fixture
def log(database: Database) -> RequestLog:
    """An empty log that counts no row by itself where sums can be had."""
    return RequestLog(database, few_rows=0)


@pytest.fixture
def exact(database: Database) -> RequestLog:
    """The same log, that counts every row."""
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
            status=chance.choice([200, 200, 404, 503]),
            error=chance.choice([None, None, "cut"]),
            total_ms=chance.choice([0.0, 0.9, chance.uniform(0, 200), 10 ** chance.uniform(0, 7.5)]),
            ttft_ms=chance.choice([None, chance.uniform(0, 5_000)]),
            prompt_tokens=chance.choice([None, chance.randrange(10_000)]),
            completion_tokens=chance.choice([None, chance.randrange(10_000)]),
        )
        for number in range(count)
    ]


def sums(stats: LogStats) -> LogStats:
    """Without percentiles, which bands only bound."""
    return replace(stats, ttft_ms=None, total_ms=None)


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
    """Both ways of counting say the same."""
    for span in spans:
        by_sums, by_rows = await log.stats(span), await exact.stats(span)
        assert sums(by_sums) == sums(by_rows), span
        for name in ("ttft_ms", "total_ms"):
            for percent in ("p50", "p95", "p99"):
                true, shown = getattr(getattr(by_rows, name), percent), getattr(getattr(by_sums, name), percent)
                assert (true is None) is (shown is None)
                if true is not None and true < 10**7:
                    assert shown <= true <= shown + max(1.0, shown / 99), (span, name, percent)


async def test_sums_and_rows_agree_whatever_was_merged_so_far(log: RequestLog, exact: RequestLog) -> None:
    """Before and after merging hours and days, and with late rows of hours that are part of a day's sums."""
    await log.insert(some_records(1, 200))
    await log.insert(some_records(7, 50))
    await agree(log, exact)
    await log.merge(now=START + 30 * HOUR)
    await agree(log, exact)
    await log.insert(some_records(2, 100))
    await agree(log, exact)
    await log.merge(now=START + 200 * HOUR)
    await agree(log, exact)


async def test_merging_leaves_one_row_of_each_hour_and_day(log: RequestLog, database: Database) -> None:
    """Of hours still open, too; days once they are over for an hour. A second time changes nothing."""
    for seed in range(3):
        await log.insert(some_records(seed, 100))
    for _ in range(2):
        await log.merge(now=START + 50 * HOUR)
        async with database.read() as connection:
            rows = (await connection.execute(select(log_sums.c.span, log_sums.c.start, log_sums.c.in_day))).all()
        assert len({(row.span, row.start) for row in rows}) == len(rows)
        over = (START + 49 * HOUR) // 86_400 * 86_400
        assert {row.start < over for row in rows if row.span == 86_400} == {True}
        assert all(row.in_day is (row.start < over) for row in rows if row.span == 3_600)


async def test_many_rows_are_merged_in_portions(
    log: RequestLog, exact: RequestLog, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever has piled up while nobody merged is not taken into memory at once, and comes to one row an hour."""
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    for number in range(11):
        await log.insert([make_record(number, started_at=START + number), make_record(50 + number, started_at=START)])
    await log.merge(now=START)
    async with database.read() as connection:
        assert len((await connection.execute(select(log_sums.c.id))).all()) == 1
    await agree(log, exact, SPANS[:2])


async def test_the_writer_leaves_the_counting_to_others(log: RequestLog, database: Database) -> None:
    """A batch costs it a copy of the columns that count; merging, not writing, makes figures of them."""
    for number in range(2):
        await log.insert([make_record(number, user="alice"), make_record(10 + number, user=None)])
    async with database.read() as connection:
        assert [row.users for row in await connection.execute(select(log_sums))] == ["", ""]
    await log.merge(now=0.0)
    async with database.read() as connection:
        (users,) = (await connection.execute(select(log_sums.c.users))).scalars()
    assert '"alice":[2,' in users


async def test_several_processes_may_merge_at_once(log: RequestLog, exact: RequestLog, database_url: str) -> None:
    """Each row counts once whoever comes first; rows are written meanwhile."""
    for seed in range(4):
        await log.insert(some_records(seed, 100))
    others = [Database(database_url) for _ in range(3)]
    try:
        merging = [RequestLog(other).merge(now=START + 50 * HOUR) for other in others]
        await asyncio.gather(*merging, log.insert(some_records(9, 50)))
        await agree(log, exact)
    finally:
        for other in others:
            await other.aclose()


async def test_deleted_rows_leave_the_sums(log: RequestLog, exact: RequestLog, database: Database) -> None:
    """By age and with their user, merged or not, and new rows count again after them."""
    users = UserStore(database, clock=FakeClock(), cost=4)
    await users.create("alice")
    await log.insert(some_records(4, 150))
    await log.merge(now=START + 60 * HOUR)
    await log.insert(some_records(5, 50))
    assert await log.cleanup(before=START + 30.5 * HOUR, batch=17) > 0
    await agree(log, exact)
    assert await users.delete("alice") > 0
    await agree(log, exact)
    await log.merge(now=START + 60 * HOUR)
    await agree(log, exact)
    assert await log.cleanup(before=START + 1_000 * HOUR) > 0
    assert (await log.stats(LogFilter())).requests == 0
    async with database.read() as connection:
        left = await sums_in(connection, None, None)
    assert not any((left.user, left.model, left.server, left.total, left.ttft))
    await log.merge(now=START + 200 * HOUR)
    async with database.read() as connection:
        assert (await connection.execute(select(log_sums))).all() == []
    await log.insert(some_records(6, 30))
    await agree(log, exact, SPANS[:3])


async def test_the_list_of_users_counts_requests_by_sums(log: RequestLog, database: Database) -> None:
    """Of days, of hours and of the last batch."""
    users = UserStore(database, clock=FakeClock(), cost=4)
    await users.create("alice")
    await users.create("carol")
    await log.insert([make_record(number) for number in range(3)])
    await log.merge(now=START)
    await log.insert([make_record(number) for number in range(3, 5)])
    assert [(user.name, user.requests) for user in await users.list()] == [("alice", 5), ("carol", 0)]


@pytest.mark.parametrize("name", ["al", 'quo"ted', ',"alice', "größe", "back\\slash", "[1,2"])
async def test_a_user_is_found_in_the_sums_whatever_the_name(log: RequestLog, database: Database, name: str) -> None:
    """Names that begin like others, or look like the text that sums are kept in."""
    others = ["alice", "al,", 'ted":[9,9,9,9]', "lash"]
    rows = [make_record(n, user=user, prompt_tokens=n) for n, user in enumerate([*others, name, name])]
    await log.insert(rows)
    for _ in ("not counted yet", "counted"):
        async with database.read() as connection:
            assert await tokens_by_day(connection, name, since=0) == {0: 9}
            assert await hours_with_user(connection, "nobody") == []
        assert [row.id for row in await log.list(LogFilter(user=name))] == ["request-5", "request-4"]
        await log.merge(now=1_000_000.0)


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
