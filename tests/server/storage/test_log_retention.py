"""Retention: what is too old or too much goes, in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ollama_router_core.config.settings import RequestLogSettings
from ollama_router_server.storage.audit import ROUTER, AuditFilter, AuditLog
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_retention import LogRetention
from ollama_router_server.storage.request_log import RequestLog
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
    log: RequestLog, database: Database, settings: RequestLogSettings, kept: list[int]
) -> None:
    """By age, by number, by both, by neither; a second look finds nothing to do."""
    retention = LogRetention(log, AuditLog(database, clock=FakeClock()), settings, clock=FakeClock())
    assert await retention.clean_up() == 10 - len(kept)
    assert await retention.clean_up() == 0
    assert await left(log) == kept


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (RequestLogSettings(keep_days=2.5, max_rows=None), ["server.drain", "server.undrain"]),
        (RequestLogSettings(keep_days=None, max_rows=1), ["server.undrain"]),
        (RequestLogSettings(keep_days=None, max_rows=None), ["log.delete", "server.drain", "server.undrain"]),
    ],
)
async def test_the_audit_trail_is_kept_as_rows_are(
    log: RequestLog, database: Database, settings: RequestLogSettings, kept: list[str]
) -> None:
    """By the same settings."""
    clock = FakeClock(epoch=FakeClock().epoch - 3 * DAY)
    audit = AuditLog(database, clock=clock)
    await audit.record(ROUTER, "log.delete")
    clock.advance(3 * DAY)
    await audit.record(ROUTER, "server.drain", "big")
    await audit.record(ROUTER, "server.undrain", "big")
    await LogRetention(log, audit, settings, clock=FakeClock()).clean_up()
    assert [entry.action for entry in reversed(await audit.list(AuditFilter()))] == kept


async def test_it_works_in_the_background(log: RequestLog, database: Database) -> None:
    """Rows go without anybody asking."""
    audit = AuditLog(database, clock=FakeClock())
    retention = LogRetention(log, audit, RequestLogSettings(keep_days=2.5), clock=FakeClock(), interval=0.01)
    retention.start()
    try:
        await eventually_async(lambda: only_recent(log))
    finally:
        await retention.aclose()


async def only_recent(log: RequestLog) -> bool:
    """Whether the old rows are gone."""
    return await left(log) == [7, 8, 9]
