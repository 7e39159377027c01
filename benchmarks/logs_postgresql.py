"""How soon the command line's questions are answered on PostgreSQL: 10,000 users, 5 million rows of the log.

    python benchmarks/logs_postgresql.py [--rows 5000000] [--users 10000] [--days 30] [--url postgresql://...]

A temporary cluster of Debian's PostgreSQL, as it is configured when installed; rows are made by the database. With
`--url` another database, which is filled if its log is empty and kept. Exit code 1 where a question of `logs` takes
2 s, or a list of users 1 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.identities import UserFilter
from ollama_router_server.storage.log_filter import LogFilter
from ollama_router_server.storage.log_totals import DAY
from ollama_router_server.storage.log_writer import add_rows
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.upgrade import upgrade_database
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import SystemClock
from support.postgresql import find_binaries, running_cluster

LOG_SECONDS, USERS_SECONDS = 2.0, 1.0
ROUNDS = 3

USERS = text("""
INSERT INTO users (name, role, active, created_at, updated_at, grants)
SELECT 'user' || lpad(n::text, 5, '0'), 'user', true, :now, :now, '{}' FROM generate_series(0, :users - 1) n
""")
TOKENS = text("""
INSERT INTO tokens (user_id, name, lookup, digest, imported, created_at)
SELECT id, 'default', lpad(to_hex(id % 16777216), 8, '0'), rpad('$2b$12$', 60, 'x'), false, :now FROM users
""")
ROWS = text("""
INSERT INTO request_log (id, started_at, "user", client, method, path, model_asked, model_served, server, status,
    attempts, streamed, queue_ms, connect_ms, ttft_ms, total_ms, load_ms, prompt_tokens, completion_tokens,
    tokens_estimated, bytes_in, bytes_out, reason, error_code, error)
SELECT lpad(to_hex(((:first + n * :step) * 1000)::bigint), 12, '0') || lpad(to_hex(n), 16, '0'), :first + n * :step,
    'user' || lpad((random() * (:users - 1))::int::text, 5, '0'),
    '10.0.0.' || n % 250, 'POST', '/api/chat', model, model, 'gpu' || (random() * 11)::int,
    CASE WHEN fine THEN 200 ELSE 503 END, 1, n % 4 > 0, 0.2, 0.4, total / 3, total,
    CASE WHEN n % 50 = 0 THEN 4000.0 END,
    400 + n % 777, 150 + n % 99, false, 2000 + n % 313, 9000 + n % 1999, 'loaded, fewest in flight',
    CASE WHEN fine THEN NULL ELSE 'upstream_error' END,
    CASE WHEN fine THEN NULL ELSE 'the server closed the connection' END
FROM (SELECT n, 'model-' || (random() * 39)::int || '\\:8b' AS model, random() < 0.98 AS fine,
             exp(7.5 + 1.2 * (random() + random() + random() - 1.5) * 2) AS total
      FROM generate_series(CAST(:begin AS bigint), :end - 1) n) made
ORDER BY n
""")


def fill(connection: Connection, rows: int, users: int, days: float, now: float) -> None:
    """Write users and rows of the last days, oldest first, and their totals."""
    connection.execute(USERS, {"users": users, "now": now})
    connection.execute(TOKENS, {"now": now})
    first, step = now - days * DAY, days * DAY / rows
    connection.execute(ROWS, {"first": first, "step": step, "users": users, "begin": 0, "end": rows})
    add_rows(connection, after=0)


def questions(log: RequestLog, users: UserStore, now: float) -> dict[str, Callable[[], Awaitable[Any]]]:
    """What is asked, by what somebody types or opens; `users` first."""
    week, user, model, server = now - 7 * DAY, "user00007", "model-7:8b", "gpu7"
    rare = LogFilter(since=week, user=user, model=model, errors=True)
    today = int(now // DAY) * DAY
    return {
        "users list": users.list,
        "users list, a page": lambda: users.page(UserFilter()),
        "users list, a page of a search": lambda: users.page(UserFilter(search="77")),
        "users show": lambda: users.show(user),
        "logs list": lambda: log.list(LogFilter()),
        "logs list --user": lambda: log.list(LogFilter(user=user)),
        "logs list --model": lambda: log.list(LogFilter(model=model)),
        "logs list --server": lambda: log.list(LogFilter(server=server)),
        "logs list --errors": lambda: log.list(LogFilter(errors=True)),
        "logs list of a model that nobody asked for": lambda: log.list(LogFilter(model="none:1b")),
        "logs list of what hardly occurs in 7 days": lambda: log.list(rare),
        "logs list, a page of slow ones": lambda: log.page(LogFilter(slower_than=1e9)),
        "logs tail, new rows": lambda: _tail(log),
        "logs stats": lambda: log.stats(LogFilter()),
        "logs stats --since 7d": lambda: log.stats(LogFilter(since=week)),
        "logs stats --since 7d --user": lambda: log.stats(LogFilter(since=week, user=user)),
        "logs stats --since 7d --model": lambda: log.stats(LogFilter(since=week, model=model)),
        "logs stats --since 7d --server": lambda: log.stats(LogFilter(since=week, server=server)),
        "logs stats --since 7d --errors": lambda: log.stats(LogFilter(since=week, errors=True)),
        "logs stats --user": lambda: log.stats(LogFilter(user=user)),
        "logs stats --model": lambda: log.stats(LogFilter(model=model)),
        "logs stats --server": lambda: log.stats(LogFilter(server=server)),
        "logs stats --errors": lambda: log.stats(LogFilter(errors=True)),
        "logs stats, by hour": lambda: log.history(LogFilter()),
        "logs stats --server, by hour": lambda: log.history(LogFilter(server=server)),
        "history of a day": lambda: log.day(today - DAY),
        "users of a model, a day": lambda: log.users_of_model(model, since=now - DAY),
    }


async def _tail(log: RequestLog) -> object:
    return await log.newer_than(await log.last_number() - 100, LogFilter(model="none:1b"))


def server_of(url: str) -> int:
    """The process of PostgreSQL that is the parent of all others."""
    with create_engine(url.replace("postgresql:", "postgresql+psycopg:")).connect() as connection:
        folder = connection.execute(text("SHOW data_directory")).scalar_one()
    return int((Path(folder) / "postmaster.pid").read_text().split()[0])


async def measure(url: str, options: argparse.Namespace) -> bool:
    """Fill what is empty and ask; says whether everything came in time."""
    await upgrade_database(url)
    server = server_of(url)
    database, clock = Database(url), SystemClock()
    log, users = RequestLog(database), UserStore(database, clock=clock)
    if not await log.last_number():
        started = time.perf_counter()
        await database.write(fill, options.rows, options.users, options.days, clock.wall())
        print(f"{'filled':<46} {time.perf_counter() - started:8.1f} s", flush=True)
    newest = (await log.list(LogFilter(), limit=1))[0].started_at
    await analyse(database)
    well = True
    for name, ask in questions(log, users, newest).items():
        spent = [await _seconds(ask, server) for _ in range(ROUNDS)]
        most = USERS_SECONDS if name.startswith("users list") else LOG_SECONDS
        well &= min(spent)[0] < most
        print(_line(name, spent, most), flush=True)
    await database.aclose()
    return command_line(url, server) and well


async def analyse(database: Database) -> None:
    """Have the planner know the tables, as autovacuum does within a minute."""
    await database.write(lambda connection: connection.execute(text("ANALYZE")))


def _line(name: str, spent: list[tuple[float, float]], most: float) -> str:
    (least, cpu), (worst, _) = min(spent), max(spent)
    late = "" if least < most else " LATE"
    return f"{name:<44} {least:6.2f} s (worst of {ROUNDS} {worst:.2f}, CPU of the database {cpu:.2f}){late}"


async def _seconds(ask: Callable[[], Awaitable[Any]], server: int) -> tuple[float, float]:
    started, cpu = time.perf_counter(), cpu_seconds(server)
    await ask()
    return time.perf_counter() - started, cpu_seconds(server) - cpu


def cpu_seconds(server: int) -> float:
    """Seconds that PostgreSQL has spent on the CPU so far: its processes and those that have ended."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    ended = sum(map(int, _stat(server)[13:15]))
    return (ended + sum(sum(map(int, _stat(int(child))[11:13])) for child in children)) / os.sysconf("SC_CLK_TCK")


def _stat(process: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return ["0"] * 15  # it has just ended


def command_line(url: str, server: int) -> bool:
    """Time `orouter users list` as a command, its start and its output included; its own CPU is printed, too."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "HOME": home, "OROUTER_DATABASE_URL": url}
        command = [str(Path(sys.executable).with_name("orouter")), "users", "list"]
        spent, before = [], os.times()
        for _ in range(ROUNDS):
            started, cpu = time.perf_counter(), cpu_seconds(server)
            subprocess.run(command, check=True, env=environment, cwd=home, stdout=subprocess.DEVNULL)
            spent.append((time.perf_counter() - started, cpu_seconds(server) - cpu))
        after = os.times()
    print(_line("the command orouter users list", spent, USERS_SECONDS))
    own = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"{'its own CPU':<44} {own / ROUNDS:6.2f} s")
    return min(spent)[0] < USERS_SECONDS


@contextlib.contextmanager
def database_at(url: str | None) -> Iterator[str]:
    """A database that exists, on this machine, or one in a temporary cluster."""
    if url is not None:
        yield url
        return
    binaries = find_binaries()
    if binaries is None:
        sys.exit("needs postgresql")
    with running_cluster(binaries) as cluster:
        yield cluster.url


def main() -> int:
    """Measure; exit code 1 where something took too long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--url")
    options = parser.parse_args()
    with database_at(options.url) as url:
        return 0 if asyncio.run(measure(url, options)) else 1


if __name__ == "__main__":
    sys.exit(main())
