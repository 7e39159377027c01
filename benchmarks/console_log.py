"""How soon pages of the console come beside five million rows of 10,000 users, on SQLite and on PostgreSQL.

    python benchmarks/console_log.py [--rows 5000000] [--users 10000] [--days 30] [--on sqlite] [--keep FILE]

Rows are made by the database; a router of its own then answers each page six times, the first of which is told apart
and left out of the median. Exit code 1 where a median is over twice what is promised, or a page is over 60 KB, packed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent / "dataplane"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import httpx
import logs_postgresql
import stacks
from sqlalchemy import text
from sqlalchemy.engine import Connection

from ollama_router_server.storage.database import Database
from ollama_router_server.storage.log_totals import DAY
from ollama_router_server.storage.log_writer import add_rows
from ollama_router_server.storage.schema import request_log
from ollama_router_server.storage.upgrade import upgrade_database
from support.postgresql import find_binaries, running_cluster

OURS = {"x-console": "1"}
LIST, USAGE = 0.3, 1.0  # seconds
MOST_BYTES = 60 * 1024
ROUNDS = 5
NUMBERS = "WITH RECURSIVE made(n) AS (SELECT :begin UNION ALL SELECT n + 1 FROM made WHERE n + 1 < :end)"
USERS = text(f"""
INSERT INTO users (name, role, active, created_at, updated_at, grants)
{NUMBERS} SELECT printf('user%05d', n), 'user', 1, :now, :now, '{{}}' FROM made
""")  # noqa: S608 - numbers are parameters
TOKENS = text("""
INSERT INTO tokens (user_id, name, lookup, digest, imported, created_at)
SELECT id, 'default', printf('%08x', id), '$2b$12$' || hex(zeroblob(26)), 0, :now FROM users
""")
GROUPS = text("""
INSERT INTO groups (name, grants, created_at, updated_at)
VALUES ('g0', '{}', 0, 0), ('g1', '{}', 0, 0), ('g2', '{}', 0, 0), ('g3', '{}', 0, 0), ('g4', '{}', 0, 0)
""")
MEMBERS = text("""
INSERT INTO memberships (user_id, group_id)
SELECT users.id, groups.id FROM users JOIN groups ON groups.name = 'g' || (users.id % 6)
""")
ROWS = text(f"""
INSERT INTO request_log (id, started_at, "user", client, method, path, model_asked, model_served, server, status,
    attempts, streamed, queue_ms, connect_ms, ttft_ms, total_ms, load_ms, prompt_tokens, completion_tokens,
    tokens_estimated, bytes_in, bytes_out, reason, error_code, error)
{NUMBERS},
drawn AS (SELECT n, abs(random()) AS a, abs(random()) AS b, 300.0 + abs(random()) % 9000 AS total FROM made)
SELECT printf('%012x%016x', CAST((:first + n * :step) * 1000 AS integer), n), :first + n * :step,
    printf('user%05d', a % :users), '10.0.0.' || (n % 250), 'POST', '/api/chat', 'model-' || (b % 40) || '\\:8b',
    'model-' || (b % 40) || '\\:8b', 'gpu' || (a / 65536 % 12), CASE WHEN n % 50 THEN 200 ELSE 503 END, 1,
    n % 4 > 0, 0.2, 0.4, total / 3, total, CASE WHEN n % 50 = 1 THEN 4000.0 END, 400 + n % 777, 150 + n % 99, 0,
    2000 + n % 313, 9000 + n % 1999, 'loaded, fewest in flight', CASE WHEN n % 50 THEN NULL ELSE 'upstream_error' END,
    CASE WHEN n % 50 THEN NULL ELSE 'the server closed the connection' END
FROM drawn
""")  # noqa: S608 - as above


class Asked(NamedTuple):
    """A page, what it is for, and what its median may be (seconds)."""

    what: str
    path: str
    most: float


PAGES = (
    Asked("first page", "requests", LIST),
    Asked("the page after", "NEXT", LIST),
    Asked("search: the id of an old request", "requests/OLD", LIST),
    Asked("search: a user", "requests?user=user00007", LIST),
    Asked("search: a model", "requests?model=model-7:8b", LIST),
    Asked("search: a server", "requests?server=gpu7", LIST),
    Asked("search: what failed", "requests?ending=error", LIST),
    Asked("search: cold loads", "requests?ending=cold", LIST),
    Asked("search: a day, three weeks ago", "requests?since=THEN&before=LATER", LIST),
    Asked("search: a user's slow ones of a model", "requests?user=user00007&model=model-7:8b&slower_than=5000", LIST),
    Asked("search: a model that nobody asked for", "requests?model=none:1b", LIST),
    Asked("search: slower than anything was", "requests?slower_than=100000000", LIST),
    Asked("people: first page", "people", LIST),
    Asked("people: search", "people?search=99", LIST),
    Asked("people: the page after", "people?after=user05000", LIST),
    Asked("people: a group", "people?group=g3", LIST),
    Asked("groups", "groups", LIST),
    Asked("one group", "groups/g3", LIST),
    Asked("one person", "people/user00007", LIST),
    Asked("usage of 24 hours", "usage?days=1", USAGE),
    Asked("usage of 7 days", "usage?days=7", USAGE),
    Asked("usage of 30 days", "usage?days=30", USAGE),
    Asked("usage of 30 days, stacked by group", "usage?days=30&stack=group", USAGE),
    Asked("usage of 30 days, sorted by tokens", "usage?days=30&order=completion_tokens", USAGE),
    Asked("start of a user", "", LIST),
)


def fill_sqlite(connection: Connection, rows: int, users: int, days: float, now: float) -> None:
    """Write users and rows of the last days, oldest first, and their totals; indexes when all rows are there."""
    connection.execute(text("PRAGMA cache_size = -2000000"))
    connection.execute(USERS, {"begin": 0, "end": users, "now": now})
    connection.execute(TOKENS, {"now": now})
    for index in request_log.indexes:
        index.drop(connection)
    first, step = now - days * DAY, days * DAY / rows
    connection.execute(ROWS, {"first": first, "step": step, "users": users, "begin": 0, "end": rows})
    for index in request_log.indexes:
        index.create(connection)
    add_rows(connection, after=0)


async def filled(url: str, options: argparse.Namespace) -> None:
    """Migrate the database, and fill it if its log is empty."""
    await upgrade_database(url)
    database = Database(url)
    there = await database.read(lambda one: one.execute(text("SELECT count(*) FROM users")).scalar_one())
    if not there:
        began = time.perf_counter()
        fill = fill_sqlite if url.startswith("sqlite") else logs_postgresql.fill
        await database.write(fill, options.rows, options.users, options.days, time.time())
        for statement in (GROUPS, MEMBERS, text("ANALYZE")):
            await database.write(lambda one, statement=statement: one.execute(statement))
        print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
    await database.aclose()


@contextlib.contextmanager
def serving(url: str, folder: Path) -> Iterator[httpx.Client]:
    """A router over that database, and a browser's session of an admin."""
    config = folder / "orouter.yml"
    port, stacks.BACKEND = stacks.free_port(), stacks.free_port()
    config.write_text(stacks.ROUTER.format(port=port, backend=stacks.BACKEND), encoding="utf-8")
    environment = {**os.environ, "OROUTER_DATABASE_URL": url, "HOME": str(folder)}
    orouter = [sys.executable, "-m", "ollama_router_cli", "--config", str(config)]
    name = f"root{time.time():.0f}"
    create = [*orouter, "users", "create", name, "--role", "admin"]
    made = subprocess.run(create, env=environment, check=True, capture_output=True, text=True)
    token = re.search(r"\b[0-9A-Za-z]{32}\b", made.stdout)[0]
    with (
        stacks.backend(),
        stacks.started("ollama-router", [*orouter, "serve"], port, token=token, env=environment),
        httpx.Client(base_url=f"http://127.0.0.1:{port}/console/", trust_env=False, timeout=120) as client,
    ):
        client.post("session", json={"token": token}, headers=OURS).raise_for_status()
        yield client


def ask(client: httpx.Client, page: Asked) -> bool:
    """Ask six times and tell; whether it was quick and light enough."""
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        answer = client.get(page.path)
        times.append(time.perf_counter() - began)
        answer.raise_for_status()
    first, median = times[0], statistics.median(times[1:])
    size = len(gzip.compress(answer.content))
    well = median <= 2 * page.most and size <= MOST_BYTES
    late = "" if median <= page.most else f" over {page.most:g} s"
    print(f"{page.what:<40} {median * 1000:7.0f} ms (first {first * 1000:.0f}) {size / 1024:6.1f} KB{late}", flush=True)
    return well


def measure(url: str, folder: Path, options: argparse.Namespace) -> bool:
    """All pages on one database."""
    asyncio.run(filled(url, options))
    with serving(url, folder) as client:
        found = re.search(r'rel="next" href="[^"]*?cursor=([^"&]+)', client.get("requests").text)
        day = time.time() - 21 * DAY
        old = client.get(f"requests?since={day:.0f}&before={day + 60:.0f}").text
        known = {
            "NEXT": f"requests?cursor={found[1]}",
            "OLD": re.search(r'id="row-([0-9a-f]+)"', old)[1],
            "THEN": f"{day:.0f}",
            "LATER": f"{day + DAY:.0f}",
        }
        pages = [page._replace(path=_with(page.path, known)) for page in PAGES]
        return min([ask(client, page) for page in pages])  # all are told, whichever is late


def _with(path: str, known: dict[str, str]) -> str:
    for word, value in known.items():
        path = path.replace(word, value)
    return path


def main() -> int:
    """Measure on what was asked for; exit code 1 where something is over twice its budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--on", choices=["sqlite", "postgresql"], action="append")
    parser.add_argument("--keep", type=Path, help="a SQLite file, filled if it is not there, and kept")
    options = parser.parse_args()
    well = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for backend in options.on or ["sqlite", "postgresql"]:
            print(f"{options.rows:,} rows of {options.users:,} users on {backend}", flush=True)
            if backend == "sqlite":
                well &= measure(f"sqlite:///{options.keep or folder / 'router.sqlite3'}", folder, options)
                continue
            if (binaries := find_binaries()) is None:
                sys.exit("needs postgresql")
            with running_cluster(binaries) as cluster:
                well &= measure(cluster.url, folder, options)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
