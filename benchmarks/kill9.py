"""How many log rows a killed process loses: 50 times `kill -9` at a random moment, at 2,000 rows a second.

    python benchmarks/kill9.py [--runs 50] [--rate 2000]

Each row that the sink took is counted in memory shared with this process, which takes the log over: in every other run
it has written to the same database all along, as other workers do, else it starts after the kill. Then the rows in the
database are counted. None may be lost, and the database must be whole.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import os
import random
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.database_sink import DatabaseSink
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.row_journal import RowJournal
from ollama_router_server.storage.row_spill import RowSpill
from ollama_router_server.storage.upgrade import upgrade_database
from ollama_router_server.system import SystemClock


async def write_for_ever(path: Path, counter: Path, rate: int) -> None:
    """The process to be killed: takes rows at a steady rate and counts them where the other process sees it."""
    database = Database(f"sqlite:///{path}")
    spill, journal = RowSpill(spill_of(path)), RowJournal(spill_of(path))
    sink = DatabaseSink(RequestLog(database), clock=SystemClock(), spill=spill, journal=journal)
    sink.start()
    with counter.open("r+b") as file, mmap.mmap(file.fileno(), 16) as shared:
        started, given = time.monotonic(), 0
        while True:
            due = int((time.monotonic() - started) * rate)
            for number in range(given, due):
                sink.write(RequestRecord(id=f"{os.getpid()}-{number}", started_at=float(number), user="alice",
                                         client="127.0.0.1", method="POST", path="/api/chat", status=200,
                                         total_ms=1.0))  # fmt: skip
            given = due
            shared[:16] = struct.pack("qq", given, sink.dropped)
            await asyncio.sleep(0.001)


def spill_of(path: Path) -> Path:
    """The folder of rows beside a database."""
    return path.with_name("spill")


@asynccontextmanager
async def writer(path: Path) -> AsyncIterator[None]:
    """Write to the database, and what a killed process has left, until the block ends and no file is left."""
    database = Database(f"sqlite:///{path}")
    spill, journal = RowSpill(spill_of(path)), RowJournal(spill_of(path))
    sink = DatabaseSink(RequestLog(database), clock=SystemClock(), spill=spill, journal=journal)
    sink.start()
    yield
    while any(spill_of(path).iterdir()):  # noqa: ASYNC110 - nobody says when
        await asyncio.sleep(0.01)
    await sink.aclose()
    await database.aclose()


class Outcome(NamedTuple):
    """Rows taken, those in memory at the kill, those lost, those there twice, seconds from the kill to all."""

    taken: int
    in_memory: int
    lost: int
    twice: int
    seconds: float


async def run_once(folder: Path, rate: int, chance: random.Random, *, beside: bool) -> Outcome:
    """Kill one process; `beside` one that runs."""
    path, counter = folder / "router.sqlite3", folder / "counter"
    for part in folder.glob("*"):  # noqa: ASYNC240 - nothing else runs
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    await upgrade_database(f"sqlite:///{path}")
    counter.write_bytes(bytes(16))
    async with AsyncExitStack() as running:
        if beside:
            await running.enter_async_context(writer(path))
        await asyncio.to_thread(kill_one, path, counter, rate, chance)
        killed = time.monotonic()
        taken, dropped = struct.unpack("qq", counter.read_bytes())
        written, _ = rows_in(path)
        if not beside:
            await running.enter_async_context(writer(path))
    seconds = time.monotonic() - killed
    found, twice = rows_in(path, below=taken)
    return Outcome(taken, taken - dropped - written, taken - dropped - found, twice, seconds)


def kill_one(path: Path, counter: Path, rate: int, chance: random.Random) -> None:
    """Let a process write, and kill it at a random moment."""
    command = [sys.executable, __file__, "--child", str(path), str(counter), "--rate", str(rate)]
    with subprocess.Popen(command) as child:
        while struct.unpack("qq", counter.read_bytes())[0] == 0:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.3, 1.5))
        child.send_signal(signal.SIGKILL)


def rows_in(path: Path, *, below: int | None = None) -> tuple[int, int]:
    """How many different rows the log has, of the first `below` or of all, and how many are there twice.

    A process that is killed may have given the sink rows that it has not counted.
    """
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        numbers = [int(name.rpartition("-")[2]) for (name,) in connection.execute("SELECT id FROM request_log")]
    different = set(numbers)
    return sum(below is None or number < below for number in different), len(numbers) - len(different)


def main() -> None:
    """Kill, count, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--child", nargs=2, type=Path)
    options = parser.parse_args()
    if options.child:
        asyncio.run(write_for_ever(*options.child, options.rate))
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = [
            asyncio.run(run_once(Path(folder), options.rate, chance, beside=bool(number % 2)))
            for number in range(options.runs)
        ]
    in_memory = sorted(one.in_memory for one in runs)
    print(f"{len(runs)} kills, {sum(one.taken for one in runs):,} rows taken; in memory")
    print(f"{in_memory[len(runs) // 2]} of them in the median, {in_memory[-1]} at most;")
    print(f"lost {sum(one.lost for one in runs)}, there twice {sum(one.twice for one in runs)}")
    for beside, who in ((1, "one that runs beside"), (0, "one that starts then")):
        seconds = sorted(one.seconds for one in runs[beside::2])
        if seconds:
            median = seconds[len(seconds) // 2]
            print(f"in the log by {who}: {median:.1f} s after the kill in the median, {seconds[-1]:.1f} at most")


main()
