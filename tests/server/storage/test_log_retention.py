"""Retention: what is too old or too much goes, in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ollama_router_core.config.settings import RequestLogSettings
from ollama_router_server.storage.audit_log import ROUTER, AuditFilter, AuditLog
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.incident_changes import Began, Ended, Origin
from ollama_router_server.storage.incident_store import IncidentFilter, IncidentStore
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_retention import LogRetention
from ollama_router_server.storage.request_log import RequestLog
from support.eventually import eventually_async
from support.records import make_record
from support.storage import FakeClock, create_sqlite

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


def retention_of(log: RequestLog, database: Database, settings: RequestLogSettings, **options: float) -> LogRetention:
    """What cleans up by these settings."""
    audit, incidents = AuditLog(database, clock=FakeClock()), IncidentStore(database)
    return LogRetention(log, audit, incidents, settings, clock=FakeClock(), **options)


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
    retention = retention_of(log, database, settings)
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
    await retention_of(log, database, settings).clean_up()
    assert [entry.action for entry in reversed(await audit.list(AuditFilter()))] == kept


async def test_incidents_are_kept_as_long_as_rows_and_while_they_go_on(log: RequestLog, database: Database) -> None:
    """What ended before goes; what is under way stays, however long ago it began."""
    store, now = IncidentStore(database), FakeClock().wall()
    for server, begun, ended in (("old", 9, 3), ("new", 9, 1), ("lasting", 9, None)):
        began = Began(kind="server.down", at=now - begun * DAY, cause="gone", server=server)
        over = [] if ended is None else [Ended(kind="server.down", at=now - ended * DAY, server=server)]
        await store.apply(Origin("one:11434"), [began, *over])
    await retention_of(log, database, RequestLogSettings(keep_days=2.5)).clean_up()
    assert {one.server for one in await store.list(IncidentFilter())} == {"new", "lasting"}


async def test_it_works_in_the_background(log: RequestLog, database: Database) -> None:
    """Rows go without anybody asking."""
    retention = retention_of(log, database, RequestLogSettings(keep_days=2.5), interval=0.01)
    retention.start()
    try:
        await eventually_async(lambda: only_recent(log))
    finally:
        await retention.aclose()


async def only_recent(log: RequestLog) -> bool:
    """Whether the old rows are gone."""
    return await left(log) == [7, 8, 9]
