"""The database sink: rows arrive, and when they cannot, requests go on and every lost row is counted."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.errors import StorageUnavailable
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.database_sink import DatabaseSink
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.row_journal import RowJournal
from ollama_router_server.storage.row_spill import RowSpill
from ollama_router_server.system import SystemClock
from support.eventually import eventually
from support.records import make_record
from support.storage import back_up, create_sqlite, delete_database, restore, sqlite_url

pytestmark = pytest.mark.anyio

QUICK = {"flush_interval": 0.01}


class Bench:
    """A database file, and sinks into it that are closed at the end."""

    def __init__(self, path: Path, exits: AsyncExitStack) -> None:
        self.path = path
        self._exits = exits

    def log(self, url: str) -> RequestLog:
        """The log of a database, whose locks are waited for only shortly."""
        database = Database(url, busy_timeout=0.05)
        self._exits.push_async_callback(database.aclose)
        return RequestLog(database)

    def full(self) -> RowSpill:
        """A spill that takes no row."""
        return RowSpill(self.path.with_name("full"), most_bytes=0)

    def sink(
        self, url: str | None = None, spill: RowSpill | None = None, journal: RowJournal | None = None, **options: Any
    ) -> DatabaseSink:
        """A started sink; what it keeps in files is beside the database, unless somebody says where."""
        spill = spill or RowSpill(self.path.with_name("kept"))
        journal = journal or RowJournal(self.path.with_name("kept"))
        self._exits.callback(spill.close)
        self._exits.callback(journal.close)
        log = self.log(url or sqlite_url(self.path))
        sink = DatabaseSink(log, clock=SystemClock(), spill=spill, journal=journal, **options)
        self._exits.push_async_callback(sink.aclose, grace=0.2)
        sink.start()
        return sink

    def count(self) -> int:
        """Rows in the file."""
        return self._ask("SELECT count(*) FROM request_log")

    def counted(self) -> int:
        """Requests of the totals."""
        return self._ask("SELECT sum(requests) FROM log_totals WHERE span = 3600 AND dimension = 'server'")

    def noted(self) -> int:
        """Lost rows that the file knows of."""
        return self._ask("SELECT coalesce(sum(dropped), 0) FROM log_drops")

    def _ask(self, query: str) -> int:
        with closing(sqlite3.connect(self.path)) as connection:
            return int(connection.execute(query).fetchone()[0])


@pytest.fixture
async def bench(path: Path) -> AsyncIterator[Bench]:
    """A migrated file."""
    async with AsyncExitStack() as exits:
        yield Bench(path, exits)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where it lies."""
    path = tmp_path / "router.sqlite3"
    create_sqlite(path)
    return path


def send(sink: DatabaseSink, numbers: range) -> None:
    """Write a row for each number."""
    for number in numbers:
        sink.write(make_record(number))


async def test_rows_arrive_by_themselves(bench: Bench) -> None:
    """A single row need not wait for company."""
    sink = bench.sink()
    send(sink, range(1))
    await eventually(lambda: sink.pending == 0)
    assert bench.count() == 1
    assert (sink.dropped, sink.healthy, sink.last_error) == (0, True, None)


async def test_closing_writes_what_waits(bench: Bench) -> None:
    """A clean stop loses nothing, however long a batch could still wait."""
    sink = bench.sink(flush_interval=3600.0)
    send(sink, range(50))
    await sink.aclose()
    assert (bench.count(), sink.pending, sink.dropped) == (50, 0, 0)


async def test_a_full_batch_does_not_wait(bench: Bench) -> None:
    """The interval is a bound, not a rhythm."""
    sink = bench.sink(flush_interval=3600.0, batch_size=10)
    send(sink, range(10))
    await eventually(lambda: bench.count() == 10)


async def test_many_rows_go_in_several_batches(bench: Bench) -> None:
    """In order, none twice, none left out."""
    sink = bench.sink(batch_size=7)
    send(sink, range(100))
    await sink.aclose()
    rows = await bench.log(sqlite_url(bench.path)).list(LogFilter(), limit=1000)
    assert [row.id for row in rows] == [f"request-{number}" for number in range(99, -1, -1)]


async def test_writing_neither_waits_nor_raises_when_full(bench: Bench) -> None:
    """The queue is bounded; what does not fit is counted, and the count gets into the database."""
    sink = bench.sink(spill=bench.full(), max_pending=10, flush_interval=3600.0)
    send(sink, range(25))
    assert (sink.pending, sink.dropped) == (10, 15)
    await sink.aclose()
    assert (bench.count(), bench.noted()) == (10, 15)


async def test_after_closing_rows_that_no_spill_takes_are_counted_as_lost(bench: Bench) -> None:
    """Nothing waits for a writer that has gone."""
    sink = bench.sink(spill=bench.full())
    await sink.aclose()
    send(sink, range(3))
    assert (sink.pending, sink.dropped) == (0, 3)


async def test_a_short_lock_loses_nothing(bench: Bench) -> None:
    """Rows are kept while another program holds the lock, and written after."""
    sink = bench.sink(**QUICK)
    with closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        send(sink, range(20))
        await eventually(lambda: not sink.healthy)
        assert "locked" in str(sink.last_error)
        assert sink.pending == 20
    await eventually(lambda: sink.pending == 0)
    assert (bench.count(), sink.dropped, sink.healthy) == (20, 0, True)


async def test_a_long_lock_loses_no_row_that_memory_holds(bench: Bench) -> None:
    """Rows beyond it are dropped and counted; new ones are taken as soon as there is room."""
    sink = bench.sink(spill=bench.full(), max_pending=15, **QUICK)
    with closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        send(sink, range(20))
        await eventually(lambda: not sink.healthy)
        assert (sink.pending, sink.dropped) == (15, 5)
    await eventually(lambda: sink.healthy)
    send(sink, range(20, 25))
    await eventually(lambda: sink.pending == 0)
    await eventually(lambda: bench.noted() == 5)
    assert (bench.count(), sink.dropped) == (20, 5)


async def test_what_memory_does_not_hold_is_spilled_and_written_later(bench: Bench, tmp_path: Path) -> None:
    """Nothing is lost, however long the database is away; no file is left when it is back."""
    sink = bench.sink(max_pending=15, spill=RowSpill(tmp_path / "spill"), **QUICK)
    with closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        send(sink, range(100))
        await eventually(lambda: not sink.healthy)
        assert (sink.pending, sink.dropped) == (100, 0)
        assert len(list((tmp_path / "spill").iterdir())) == 1
    await eventually(lambda: sink.pending == 0)
    assert (bench.count(), sink.dropped) == (100, 0)
    assert list((tmp_path / "spill").iterdir()) == []


async def test_what_was_spilled_at_the_end_is_read_in_at_the_next_start(bench: Bench, tmp_path: Path) -> None:
    """Once, even if it had been written already: a commit whose answer was lost, or a process that was killed."""
    spill = tmp_path / "spill"
    first, database = RowSpill(spill), Database(sqlite_url(bench.path), busy_timeout=0.05)
    sink = DatabaseSink(RequestLog(database), clock=SystemClock(), spill=first, journal=(journal := RowJournal(spill)))
    sink.start()
    with closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        send(sink, range(20))
        await sink.aclose(grace=0.1)
    assert (sink.pending, sink.dropped) == (20, 0)
    await database.aclose()
    first.close()
    journal.close()
    patient = Database(sqlite_url(bench.path))
    await RequestLog(patient).insert([make_record(number) for number in range(5)], again=True)
    await patient.aclose()
    again = bench.sink(spill=RowSpill(spill), **QUICK)
    await eventually(lambda: not list(spill.iterdir()))
    assert (bench.count(), again.dropped) == (20, 0)


async def test_lines_of_the_spill_that_are_no_rows_are_counted(bench: Bench, tmp_path: Path) -> None:
    """Half a line of a killed process, and a number that no database takes; their neighbours are written."""
    first = RowSpill(tmp_path / "spill")
    for row in (make_record(1), make_record(2, bytes_in=2**63), make_record(3)):
        first.add(row)
    first.close()
    (file,) = (tmp_path / "spill").iterdir()
    with file.open("ab") as end:
        end.write(b'{"id":')
    sink = bench.sink(spill=RowSpill(tmp_path / "spill"), **QUICK)
    await eventually(lambda: not list((tmp_path / "spill").iterdir()))
    await eventually(lambda: bench.noted() == 2)
    assert (bench.count(), sink.dropped) == (2, 2)


async def test_a_commit_whose_answer_was_lost_leaves_each_row_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is sent again, with rows that came meanwhile."""

    async def write_and_fail(database: Database, *work: Any, **options: Any) -> None:
        monkeypatch.undo()
        await database.write(*work, **options)
        raise StorageUnavailable("the connection broke")

    monkeypatch.setattr(Database, "write", write_and_fail)
    sink = bench.sink(**QUICK)
    send(sink, range(5))
    await eventually(lambda: sink.last_error == "the connection broke")
    send(sink, range(5, 8))
    await eventually(lambda: sink.pending == 0)
    assert (bench.count(), sink.dropped) == (8, 0)


async def test_a_read_only_database(bench: Bench) -> None:
    """Rows wait, the reason is there to be shown, and closing does not hang but spills them."""
    sink = bench.sink(sqlite_url(bench.path) + "?mode=ro", **QUICK)
    send(sink, range(20))
    await eventually(lambda: not sink.healthy)
    assert "readonly" in str(sink.last_error)
    await sink.aclose(grace=0.1)
    assert (bench.count(), sink.pending, sink.dropped) == (0, 20, 0)


async def test_a_deleted_database_and_its_return(bench: Bench) -> None:
    """Rows are not written into a file that no longer has a name; after a restore they arrive again."""
    sink = bench.sink(**QUICK)
    send(sink, range(5))
    await eventually(lambda: sink.pending == 0)
    backup = back_up(bench.path)
    delete_database(bench.path)
    send(sink, range(5, 10))
    await eventually(lambda: "gone" in str(sink.last_error))
    restore(backup, bench.path)
    await eventually(lambda: sink.healthy)
    send(sink, range(10, 15))
    await eventually(lambda: sink.pending == 0)
    assert (bench.count(), sink.dropped) == (15, 0)


async def test_closing_gives_up_after_its_grace(bench: Bench) -> None:
    """A stop is a stop: what could not be written by then is spilled."""
    sink = bench.sink()
    with closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        send(sink, range(5))
        await sink.aclose(grace=0.1)
    assert (sink.pending, sink.dropped, bench.count()) == (5, 0, 0)


async def test_what_the_spill_refuses_at_the_end_stays_in_the_journal(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the database away and the disk full, rows that are in a file already are lost to nobody."""
    folder = tmp_path / "rows"
    sink = bench.sink(spill=(spill := RowSpill(folder)), journal=(journal := RowJournal(folder)))
    with closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        send(sink, range(5))
        monkeypatch.setattr(os, "pwrite", lambda *_: 0)
        await sink.aclose(grace=0.1)
        journal.close()
        spill.close()
        monkeypatch.undo()
    assert (sink.dropped, bench.count()) == (0, 0)
    again = bench.sink(spill=RowSpill(folder))
    await eventually(lambda: not list(folder.iterdir()))
    await again.aclose()
    assert bench.count() == 5


async def test_one_bad_row_takes_no_other_with_it(bench: Bench) -> None:
    """A text that is no Unicode is refused by the driver; its neighbours are written."""
    sink = bench.sink()
    send(sink, range(3))
    sink.write(make_record(3, model_asked="\ud800"))
    send(sink, range(4, 6))
    await sink.aclose()
    assert (bench.count(), sink.dropped, bench.noted()) == (5, 1, 1)


async def test_a_bad_row_of_many_costs_few_transactions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for in halves: a thousand rows one by one would be as many transactions."""
    transactions = []

    async def insert(log: RequestLog, rows: Sequence[RequestRecord], **options: Any) -> None:
        transactions.append(len(rows))
        await real(log, rows, **options)

    real = RequestLog.insert
    monkeypatch.setattr(RequestLog, "insert", insert)
    sink = bench.sink(flush_interval=3600.0, batch_size=32)
    send(sink, range(10))
    sink.write(make_record(10, bytes_in=2**63))
    send(sink, range(11, 32))
    await eventually(lambda: sink.pending == 0)
    assert (bench.count(), sink.dropped) == (31, 1)
    assert sorted(transactions) == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32]


async def test_a_count_that_cannot_be_noted_holds_up_no_row(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user of the database without the right to write into that table, for example."""

    async def refuse(*_: object, **_more: object) -> None:
        raise PermissionError

    monkeypatch.setattr(RequestLog, "note_dropped", refuse)
    sink = bench.sink(spill=bench.full(), max_pending=2, **QUICK)
    send(sink, range(5))
    await eventually(lambda: bench.count() == 2)
    send(sink, range(5, 6))
    await eventually(lambda: bench.count() == 3)
    assert sink.healthy
    await sink.aclose()


async def test_rows_and_drops_together_are_all_requests(bench: Bench) -> None:
    """Under load, with a lock that comes and goes: nothing is lost without being counted."""
    sink = bench.sink(spill=bench.full(), max_pending=50, batch_size=10, **QUICK)
    with closing(sqlite3.connect(bench.path, isolation_level=None, timeout=0)) as other:
        for start in range(0, 1_000, 100):
            await eventually(lambda: locked(other))
            send(sink, range(start, start + 70))
            await asyncio.sleep(0)
            other.execute("ROLLBACK")
            send(sink, range(start + 70, start + 100))
            await eventually(lambda: sink.pending < 25)
    await sink.aclose()
    assert bench.count() + sink.dropped == 1_000
    assert bench.noted() == sink.dropped
    assert sink.dropped > 0


def locked(connection: sqlite3.Connection) -> bool:
    """Take the lock unless the sink has it: waiting here would keep the sink from ending its transaction."""
    with suppress(sqlite3.OperationalError):
        connection.execute("BEGIN IMMEDIATE")
    return connection.in_transaction


WRITER = """
import asyncio, sys, time
from pathlib import Path
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database_sink import DatabaseSink
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.row_journal import RowJournal
from ollama_router_server.storage.row_spill import RowSpill
from ollama_router_server.system import SystemClock

async def main():
    log, folder = RequestLog(Database(sys.argv[1])), Path(sys.argv[2])
    sink = DatabaseSink(log, clock=SystemClock(), spill=RowSpill(folder), journal=RowJournal(folder))
    sink.start()
    number = 0
    while True:
        sink.write(RequestRecord(id=str(number), started_at=time.time(), user=None, client=None,
                                 method="GET", path="/", status=200, total_ms=1.0))
        print(number, flush=True)
        number += 1
        await asyncio.sleep(0.001)

asyncio.run(main())
"""


def killed_writer(*arguments: str) -> int:
    """Have a process write a row a millisecond until it is killed after 500; how many it wrote."""
    command = [sys.executable, "-c", WRITER, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        written = 0
        for written, _ in enumerate(child.stdout, 1):
            if written > 500:
                child.kill()
    return written


async def test_a_killed_process_loses_nothing(bench: Bench, tmp_path: Path) -> None:
    """The file is sound, the next process writes what is missing, and each row counts once."""
    left = tmp_path / "spill"
    written = await asyncio.to_thread(killed_writer, sqlite_url(bench.path), str(left))
    assert bench.count() <= written
    with closing(sqlite3.connect(bench.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    sink = bench.sink(spill=RowSpill(left), **QUICK)
    await eventually(lambda: not list(left.iterdir()))
    await sink.aclose()
    assert written <= bench.count() <= written + 1  # it may have been killed before it said so
    assert bench.counted() == bench.count()


async def test_a_process_that_runs_writes_what_a_killed_one_has_left(bench: Bench, tmp_path: Path) -> None:
    """Nobody has to start for it; rows of processes that run stay theirs."""
    folder = tmp_path / "spill"
    sink = bench.sink(spill=RowSpill(folder), **QUICK)
    killed, alive = RowJournal(folder), RowJournal(folder)
    alive.add(make_record(1))
    for number in range(2, 5):
        killed.add(make_record(number))
    kill(killed)
    await eventually(lambda: bench.count() == 3)
    await eventually(lambda: len(list(folder.iterdir())) == 1)
    await sink.aclose()
    assert (bench.count(), bench.counted()) == (3, 3)
    alive.close()


def kill(journal: RowJournal) -> None:
    """Leave its files as the kernel does: as they are, and unlocked."""
    for turn in (journal._older, journal._newer):
        if turn._file is not None:
            turn._file._file.close()
