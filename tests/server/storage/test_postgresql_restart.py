"""PostgreSQL goes away for a while and comes back: no row is lost, and none is there twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import anyio
import psycopg
import pytest

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.database_sink import DatabaseSink
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.row_journal import RowJournal
from ollama_router_server.storage.row_spill import RowSpill
from ollama_router_server.storage.upgrade import upgrade_database
from ollama_router_server.system import SystemClock
from support.eventually import eventually
from support.pauses import stay_silent
from support.postgresql import Cluster, find_binaries, running_cluster
from support.records import make_record

pytestmark = pytest.mark.anyio


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A server of its own, since it is stopped."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: install the package postgresql")
    with running_cluster(binaries) as cluster:
        anyio.run(upgrade_database, cluster.url)
        yield cluster


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_loses_no_row(cluster: Cluster, tmp_path: Path, mode: str) -> None:
    """120 rows come before, while it is away, and after; each arrives once."""
    database = Database(cluster.url)
    spill, journal = RowSpill(tmp_path), RowJournal(tmp_path)
    sink = DatabaseSink(RequestLog(database), clock=SystemClock(), spill=spill, journal=journal, flush_interval=0.01)
    sink.start()
    for number in range(120):
        sink.write(make_record(number))
        await stay_silent(0.005)
        if number == 40:
            await asyncio.to_thread(cluster.stop, mode)
        if number == 80:
            await eventually(lambda: not sink.healthy)
            await asyncio.to_thread(cluster.start)
    await eventually(lambda: sink.pending == 0 and sink.healthy, seconds=30)
    await sink.aclose()
    await database.aclose()
    spill.close()
    journal.close()
    with psycopg.connect(cluster.url) as connection:
        counts = connection.execute("SELECT count(*), count(DISTINCT id) FROM request_log").fetchone()
    assert (counts, sink.dropped) == ((120, 120), 0)
