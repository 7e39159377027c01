"""What the request log costs and how soon figures come: 10,000 users, 5 million rows, SQLite.

    python benchmarks/logs.py [--rows 5000000] [--users 10000] [--days 30] [--keep FILE]

Prints: how long `stats` takes over 7 days, over everything and with filters; the CPU that writing 1,000 rows a second
takes with their totals (all for one model on one server, and as mixed as the file); what retention takes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.database_sink import DatabaseSink
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.row_journal import RowJournal
from ollama_router_server.storage.row_spill import RowSpill
from ollama_router_server.storage.upgrade import upgrade_database
from ollama_router_server.system import SystemClock

MODELS = [f"model-{n}:8b" for n in range(40)]
SERVERS = [f"gpu{n}" for n in range(12)]
ROUNDS = 5

Kind = Callable[[int, float, str, random.Random], RequestRecord]


def mixed(number: int, started_at: float, user: str, chance: random.Random) -> RequestRecord:
    """A row for one of the models, of a server that fails now and then."""
    total = chance.lognormvariate(7.5, 1.2)
    model = chance.choice(MODELS)
    fine = chance.random() < 0.98
    return RequestRecord(
        id=f"{number:028x}", started_at=started_at, user=user, client=f"10.0.0.{number % 250}", method="POST",
        path="/api/chat" if number % 3 else "/v1/chat/completions", model_asked=model, model_served=model,
        server=chance.choice(SERVERS), status=200 if fine else 503, attempts=1, streamed=number % 4 > 0, queue_ms=0.2,
        ttft_ms=total / 3, total_ms=total, prompt_tokens=400 + number % 777, completion_tokens=150 + number % 99,
        bytes_in=2_000 + number % 313, bytes_out=9_000 + number % 1_999, error_code=None if fine else "upstream_error",
        error=None if fine else "the server closed the connection",
        reason="loaded, fewest in flight" if number % 5 else "fits beside what is loaded")  # fmt: skip


def alike(number: int, started_at: float, user: str, _chance: random.Random) -> RequestRecord:
    """A row for the one model of a small fleet."""
    return RequestRecord(
        id=f"{number:028x}", started_at=started_at, user=user, client="10.0.0.1", method="POST", path="/api/chat",
        model_asked=MODELS[0], model_served=MODELS[0], server=SERVERS[0], status=200, attempts=1, streamed=True,
        queue_ms=0.1 + number % 7, ttft_ms=50.0 + number % 90, total_ms=900.0 + number % 900, load_ms=1.5,
        prompt_tokens=400, completion_tokens=150, bytes_in=2_000, bytes_out=9_000,
        reason="loaded, fewest in flight")  # fmt: skip


async def fill(log: RequestLog, rows: int, users: int, days: float, now: float) -> None:
    """Write rows of the last days, oldest first."""
    chance = random.Random(1)
    names = [f"user{n:05}" for n in range(users)]
    first, step = now - days * 86_400, days * 86_400 / rows
    for start in range(0, rows, 20_000):
        numbers = range(start, min(rows, start + 20_000))
        rows_now = [mixed(number, first + step * number, chance.choice(names), chance) for number in numbers]
        await log.insert(rows_now)


def say(what: str, seconds: float, rest: str) -> None:
    """One line of the table."""
    print(f"{what:<42} {seconds:8.2f} s {rest}", flush=True)


async def measure_stats(log: RequestLog, now: float) -> None:
    """Seconds for figures."""
    week = now - 7 * 86_400
    asked = {
        "7 days": LogFilter(since=week),
        "everything": LogFilter(),
        "7 days of a user": LogFilter(since=week, user="user00007"),
        "7 days of a model": LogFilter(since=week, model=MODELS[7]),
        "7 days of a server": LogFilter(since=week, server=SERVERS[7]),
    }
    for name, chosen in asked.items():
        found = [await _time_of_stats(log, chosen) for _ in range(3)]
        (least, cpu, rows), (most, _, _) = min(found), max(found)
        say(f"stats over {name}", least, f"for {rows:,} rows (best of 3, worst {most:.2f} s; CPU {cpu:.2f} s)")


async def _time_of_stats(log: RequestLog, chosen: LogFilter) -> tuple[float, float, int]:
    started, cpu = time.perf_counter(), time.process_time()
    stats = await log.stats(chosen)
    return time.perf_counter() - started, time.process_time() - cpu, stats.requests


async def measure_writer(
    log: RequestLog, folder: Path, users: int, kind: Kind, seconds: float = 4.0, rate: int = 1_000
) -> None:
    """CPU of writing so many rows a second, evenly spread: all that comes after a record was made.

    Making the records costs time, too, so both are measured in turns.
    """
    clock = SystemClock()
    sink = DatabaseSink(log, clock=clock, spill=RowSpill(folder), journal=RowJournal(folder))
    sink.start()
    chance = random.Random(2)
    names = [f"user{number:05}" for number in range(users)]

    def make(number: int) -> RequestRecord:
        return kind(number, clock.wall(), names[number * 7_919 % users], chance)

    count, spent = int(rate * seconds), []
    for _ in range(ROUNDS):
        idle = await _cpu_of_feeding(count, rate, make)
        busy = await _cpu_of_feeding(count, rate, lambda number: sink.write(make(number)))
        started = time.process_time()
        await asyncio.sleep(0.3)  # for the last batch
        spent.append(busy + time.process_time() - started - idle)
    await sink.aclose()
    share = statistics.median(spent) / seconds
    each = share / rate * 1e6
    what = f"write {rate:,} rows/s {kind.__name__}, CPU a second"
    say(what, share, f"({each:.1f} us a row with its totals, median of {ROUNDS}, {sink.dropped} dropped)")


async def _cpu_of_feeding(count: int, rate: int, give: Callable[[int], object]) -> float:
    """CPU seconds of the process while so many records are made, and handed over, at this rate."""
    before, started, given = time.process_time(), time.perf_counter(), 0
    while given < count:
        due = min(count, int((time.perf_counter() - started) * rate))
        for number in range(given, due):
            give(number)
        given = due
        await asyncio.sleep(0.02)
    return time.process_time() - before


async def measure_retention(log: RequestLog, now: float, days: float) -> None:
    """Deleting the oldest fiftieth."""
    started = time.perf_counter()
    gone = await log.cleanup(before=now - days * 86_400 * 0.98)
    spent = time.perf_counter() - started
    say("delete old rows", spent, f"for {gone:,} rows ({gone / max(spent, 1e-9):,.0f} rows/s)")


async def main() -> None:
    """Fill a file and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.keep or Path(folder, "router.sqlite3")
        now = SystemClock().wall()
        fresh = not path.exists()
        await upgrade_database(f"sqlite:///{path}")
        database = Database(f"sqlite:///{path}")
        log = RequestLog(database)
        if fresh:
            started = time.perf_counter()
            await fill(log, options.rows, options.users, options.days, now)
            say("fill the file", time.perf_counter() - started, f"{path.stat().st_size / 2**20:,.0f} MiB")
        await measure_stats(log, now)
        gc.freeze()  # as `orouter serve` does
        for kind in (alike, mixed):
            await measure_writer(log, Path(folder, "kept"), options.users, kind)
        await measure_retention(log, now, options.days)
        await database.aclose()


asyncio.run(main())
