"""Retention: what is too old or too much goes, in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from ollama_router_core.config.settings import RequestLogSettings
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_retention import LogRetention
from ollama_router_server.storage.request_log import LogFilter, RequestLog
from ollama_router_server.storage.schema import log_sums
from support.eventually import eventually_async
from support.storage import FakeClock, create_sqlite, make_record

pytestmark = pytest.mark.anyio

DAY = 86_400.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A migrated database."""
    return create_sqlite(tmp_path / "router.sqlite3")


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """Connections to it."""
    database = Database(url)
    yield database
    await database.aclose()


@pytest.fixture
async def log(database: Database) -> RequestLog:
    """Ten rows, one a day, the last one now."""
    log = RequestLog(database)
    now = FakeClock().wall()
    await log.insert([make_record(n, started_at=now - (9 - n) * DAY) for n in range(10)])
    return log


async def left(log: RequestLog) -> list[int]:
    """The numbers of the rows that are there."""
    return sorted(int(row.id.removeprefix("request-")) for row in await log.list(LogFilter()))


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (RequestLogSettings(keep_days=2.5), [7, 8, 9]),
        (RequestLogSettings(keep_days=None, max_rows=4), [6, 7, 8, 9]),
        (RequestLogSettings(keep_days=2.5, max_rows=2), [8, 9]),
        (RequestLogSettings(keep_days=None, max_rows=None), list(range(10))),
        (RequestLogSettings(keep_days=100.0, max_rows=100), list(range(10))),
    ],
)
async def test_rows_are_kept_as_the_settings_say(
    log: RequestLog, settings: RequestLogSettings, kept: list[int]
) -> None:
    """By age, by number, by both, by neither; a second look finds nothing to do."""
    keeper = LogRetention(log, settings, clock=FakeClock())
    assert await keeper.clean_up() == 10 - len(kept)
    assert await keeper.clean_up() == 0
    assert await left(log) == kept


async def test_it_works_in_the_background(log: RequestLog, database: Database) -> None:
    """Sums are merged and rows go without anybody asking."""
    keeper = LogRetention(
        log, RequestLogSettings(keep_days=2.5), clock=FakeClock(), merge_interval=0.01, cleanup_interval=0.0
    )
    keeper.start()
    try:
        await eventually_async(lambda: settled(log, database))
    finally:
        await keeper.aclose()


async def settled(log: RequestLog, database: Database) -> bool:
    """Whether the old rows are gone, and nothing is left of them in the sums of days that are over."""
    spans = select(log_sums.c.span, func.count()).where(log_sums.c.in_day.is_(False)).group_by(log_sums.c.span)
    async with database.read() as connection:
        rows = (await connection.execute(spans)).all()
    return await left(log) == [7, 8, 9] and (86_400, 2) in rows
