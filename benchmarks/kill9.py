"""How many log rows a killed process loses: 50 times `kill -9` at a random moment, at 2,000 rows a second.

    python benchmarks/kill9.py [--runs 50] [--rate 2000]

Each row that the sink took is counted in memory shared with this process; after the kill a second process takes the
log over, and the rows in the database are counted. None may be lost, and the database must be whole.
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
from contextlib import closing
from pathlib import Path

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
    sink = DatabaseSink(RequestLog(database), clock=SystemClock(), journal=RowJournal(spill_of(path)))
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


async def take_over(path: Path) -> None:
    """Write what the killed process had in memory."""
    database = Database(f"sqlite:///{path}")
    spill = RowSpill(spill_of(path))
    sink = DatabaseSink(RequestLog(database), clock=SystemClock(), spill=spill)
    sink.start()
    while spill.waiting:  # noqa: ASYNC110 - nobody says when
        await asyncio.sleep(0.01)
    await sink.aclose()
    await database.aclose()


def run_once(folder: Path, rate: int, chance: random.Random) -> tuple[int, int, int]:
    """Rows taken, rows that were in memory when the process was killed, and rows lost."""
    path, counter = folder / "router.sqlite3", folder / "counter"
    for part in folder.glob("*"):
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    asyncio.run(upgrade_database(f"sqlite:///{path}"))
    counter.write_bytes(bytes(16))
    command = [sys.executable, __file__, "--child", str(path), str(counter), "--rate", str(rate)]
    with subprocess.Popen(command) as child:
        while struct.unpack("qq", counter.read_bytes())[0] == 0:
            time.sleep(0.01)
        time.sleep(chance.uniform(0.3, 1.5))
        child.send_signal(signal.SIGKILL)
    taken, dropped = struct.unpack("qq", counter.read_bytes())
    written = rows_in(path)
    asyncio.run(take_over(path))
    return taken, taken - dropped - written, taken - dropped - rows_in(path)


def rows_in(path: Path) -> int:
    """How many the log has."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("SELECT count(*) FROM request_log").fetchone()[0])


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
        runs = [run_once(Path(folder), options.rate, chance) for _ in range(options.runs)]
    in_memory, wrong = sorted(one[1] for one in runs), max(abs(one[2]) for one in runs)
    print(
        f"{len(runs)} kills, {sum(one[0] for one in runs):,} rows taken; in memory {in_memory[len(runs) // 2]} of them"
    )
    print(f"in the median, {in_memory[-1]} at most; lost or there twice after the next start {wrong} at most")


main()
